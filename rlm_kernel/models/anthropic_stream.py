"""A streamed reply of Anthropic's messages, put together into the body that it would have had unstreamed."""

from __future__ import annotations

from typing import Any

import msgspec

from rlm_kernel.models.anthropic_wire import arguments
from rlm_kernel.models.model import OnText, TextDelta


class _Delta(msgspec.Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str
    index: int = 0
    message: dict[str, Any] | None = None
    content_block: dict[str, Any] | None = None
    delta: _Delta = msgspec.field(default_factory=_Delta)
    usage: dict[str, Any] | None = None


class StreamedReply:
    """Takes a stream's events, passes text on, and becomes a reply's body."""

    def __init__(self, on_text: OnText) -> None:
        self._on_text = on_text
        self._head: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._pieces: dict[tuple[int, str], list[str]] = {}
        self.complete = False

    def take(self, data: object) -> None:
        """Take one event; what it doesn't know is passed over. Raise `msgspec.ValidationError` if it is none."""
        event = msgspec.convert(data, _Event)
        if event.type == "message_start" and event.message is not None:
            self._head |= event.message
        elif event.type == "content_block_start" and event.content_block is not None:
            self._blocks[event.index] = dict(event.content_block)
        elif event.type == "content_block_delta":
            self._add(event.index, event.delta)
        elif event.type == "message_delta":
            self._head["stop_reason"] = event.delta.stop_reason
            self._head["usage"] = {**(self._head.get("usage") or {}), **_known(event.usage)}
        elif event.type == "message_stop":
            self.complete = True

    def body(self) -> dict[str, Any]:
        """Return what the reply's body would have been."""
        for (index, name), pieces in self._pieces.items():
            block = self._blocks.setdefault(index, {"type": "text"})
            whole = "".join(pieces)
            block[name] = arguments(whole) if name == "input" else str(block.get(name) or "") + whole
        return {**self._head, "content": [block for _, block in sorted(self._blocks.items())]}

    def _add(self, index: int, delta: _Delta) -> None:
        for kind, name, piece in (
            ("text", "text", delta.text),
            ("reasoning", "thinking", delta.thinking),
            ("arguments", "input", delta.partial_json),
        ):
            if piece:
                self._pieces.setdefault((index, name), []).append(piece)
                self._on_text(TextDelta(kind, piece))  # type: ignore[arg-type]
        if delta.signature:
            self._pieces[index, "signature"] = [delta.signature]


def _known(usage: dict[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (usage or {}).items() if value is not None}
