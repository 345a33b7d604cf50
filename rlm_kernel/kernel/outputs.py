"""Collects the outputs of one cell, shaped as in nbformat 4.5, within limits of the host's own."""

from __future__ import annotations

import re

import msgspec

from rlm_kernel.kernel.messages import DisplayContent, Envelope, ErrorContent, StreamContent, decode_lenient
from rlm_kernel.types import JSON

MAX_BYTES = 16 * 1024 * 1024
MAX_OUTPUTS = 50_000
ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_]")


class Outputs:
    """The outputs of one cell so far; `cut` counts the bytes that were left out.

    The guest cuts output too. These limits hold against a guest that does not.
    """

    def __init__(self) -> None:
        self.cut = 0
        self.error: ErrorContent | None = None
        self._items: list[tuple[str | None, list[str], dict[str, JSON]]] = []
        self._size = 0
        self._count = 0
        self._finished = False

    def take(self, message: Envelope) -> dict[str, JSON] | None:
        """Keep the output that `message` carries and return it; None if it has none or is left out."""
        size = len(bytes(message.content))
        output = self._read(message)
        if output is None:
            return None
        self._size += size
        self._count += 1
        if self._size > MAX_BYTES or self._count > MAX_OUTPUTS:
            self.cut += size
            return None
        stream = output["name"] if output["output_type"] == "stream" else None
        if self._finished:
            return output
        if stream is not None and self._items and self._items[-1][0] == stream:
            self._items[-1][1].append(str(output["text"]))
        else:
            text = [str(output["text"])] if stream is not None else []
            self._items.append((str(stream) if stream is not None else None, text, output))
        return output

    def finish(self) -> tuple[dict[str, JSON], ...]:
        """Return the outputs, successive text of one stream joined, and keep none of them or of later ones."""
        items, self._items, self._finished = self._items, [], True
        return tuple({**output, "text": "".join(text)} if stream else output for stream, text, output in items)

    def _read(self, message: Envelope) -> dict[str, JSON] | None:
        output: dict[str, JSON] | None = None
        match message.header.msg_type:
            case "stream":
                if stream := decode_lenient(message.content, StreamContent):
                    output = {"output_type": "stream", "name": stream.name, "text": stream.text}
            case "display_data" | "update_display_data" | "execute_result" as kind:
                if display := decode_lenient(message.content, DisplayContent):
                    output = {"output_type": "display_data", "data": display.data, "metadata": display.metadata}
                    if kind == "execute_result":
                        output |= {"output_type": kind, "execution_count": display.execution_count}
            case "error":
                if error := decode_lenient(message.content, ErrorContent):
                    lines = [ANSI.sub("", line) for line in error.traceback]
                    self.error = ErrorContent(error.ename, error.evalue, lines)
                    output = {"output_type": "error", **msgspec.to_builtins(self.error)}
            case _:
                return None
        if output is None:
            self.cut += len(bytes(message.content))
        return output
