"""A streamed reply of OpenAI's chat completions, put together into the body that it would have had unstreamed."""

from __future__ import annotations

from typing import Any

import msgspec

from rlm_kernel.models.model import OnText, TextDelta

_TEXTS = ("content", "refusal", "reasoning_content", "reasoning")
_JOINED = ("text", "summary", "data")
"""The fields of one of OpenRouter's reasoning details that come in pieces."""


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function = msgspec.field(default_factory=_Function)
    extra_content: dict[str, Any] | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[dict[str, Any]] | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    id: str | None = None
    model: str | None = None
    usage: dict[str, Any] | None = None


class StreamedReply:
    """Takes a stream's chunks, passes text on, and becomes a reply's body."""

    def __init__(self, on_text: OnText) -> None:
        self._on_text = on_text
        self._head: dict[str, Any] = {}
        self._texts: dict[str, list[str]] = {}
        self._calls: list[dict[str, Any]] = []
        self._places: dict[int, dict[str, Any]] = {}
        self._details: dict[tuple[object, object], dict[str, Any]] = {}
        self._finish_reason: str | None = None

    @property
    def complete(self) -> bool:
        """Whether the reply came to its end."""
        return self._finish_reason is not None

    def take(self, data: object) -> None:
        """Take one chunk. Raise `msgspec.ValidationError` if it is none."""
        chunk = msgspec.convert(data, _Chunk)
        for name in ("id", "model", "usage"):
            if (value := getattr(chunk, name)) is not None:
                self._head[name] = value
        for choice in chunk.choices or []:
            if choice.index == 0:
                self._finish_reason = choice.finish_reason or self._finish_reason
                if choice.delta is not None:
                    self._add(choice.delta)

    def body(self) -> dict[str, Any]:
        """Return what the reply's body would have been."""
        message: dict[str, Any] = {name: "".join(pieces) for name, pieces in self._texts.items()}
        if self._calls:
            message["tool_calls"] = self._calls
        if self._details:
            message["reasoning_details"] = list(self._details.values())
        return {**self._head, "choices": [{"message": message, "finish_reason": self._finish_reason}]}

    def _add(self, delta: _Delta) -> None:
        for name in _TEXTS:
            piece = getattr(delta, name)
            if piece is not None:
                self._texts.setdefault(name, []).append(piece)
            if piece:
                self._on_text(TextDelta("reasoning" if name.startswith("reasoning") else "text", piece))
        for detail in delta.reasoning_details or []:
            self._add_detail(detail)
        for call in delta.tool_calls or []:
            self._add_call(call)

    def _add_detail(self, detail: dict[str, Any]) -> None:
        place = (detail.get("index", len(self._details)), detail.get("type"))
        whole = self._details.setdefault(place, {})
        for name, value in detail.items():
            if name in _JOINED and isinstance(value, str) and isinstance(whole.get(name), str):
                whole[name] += value
            elif value is not None or name not in whole:
                whole[name] = value

    def _add_call(self, piece: _Call) -> None:
        """Add a piece to its call. Some servers give whole calls without an index, or all of them the same one."""
        place = piece.index if piece.index is not None else len(self._calls) - (not piece.id)
        call = self._places.get(place)
        if call is None or (piece.id and call["id"] and piece.id != call["id"]):
            call = {"id": None, "function": {"name": "", "arguments": ""}}
            self._places[place] = call
            self._calls.append(call)
        call["id"] = call["id"] or piece.id
        function = call["function"]
        function["name"] = function["name"] or piece.function.name or ""
        if piece.extra_content is not None:
            call["extra_content"] = piece.extra_content
        if piece.function.arguments:
            function["arguments"] += piece.function.arguments
            self._on_text(TextDelta("arguments", piece.function.arguments))
