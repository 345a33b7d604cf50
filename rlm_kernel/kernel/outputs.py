"""Collects the outputs of one cell, shaped as in nbformat 4.5, within limits of the host's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from rlm_kernel.kernel.messages import DisplayContent, Envelope, ErrorContent, StreamContent, decode_lenient
from rlm_kernel.types import JSON

MAX_BYTES = 16 * 1024 * 1024
MAX_OUTPUTS = 50_000
ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_]")


class Output(NamedTuple):
    """One output, shaped as in nbformat; `display_id` and `update` as in `CellOutput`."""

    content: dict[str, JSON]
    display_id: str | None = None
    update: bool = False


@dataclass(slots=True)
class _Item:
    """An output that is kept; `text` are the pieces of a stream."""

    content: dict[str, JSON]
    text: list[str]
    display_id: str | None


class Outputs:
    """The outputs of one cell so far; `cut` counts the bytes that were left out.

    The guest cuts output too. These limits hold against a guest that does not.
    """

    def __init__(self) -> None:
        self.cut = 0
        self.error: ErrorContent | None = None
        self._items: list[_Item] = []
        self._size = 0
        self._count = 0
        self._clear = False
        self._finished = False

    def take(self, message: Envelope) -> Output | None:
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
        if not self._finished:
            self._keep(output)
        return output

    def clear(self, wait: bool) -> None:
        """Forget the outputs so far, or with `wait` do so when the next one comes."""
        self._clear = wait
        if not wait:
            self._items.clear()

    def finish(self) -> tuple[dict[str, JSON], ...]:
        """Return the outputs, successive text of one stream joined, and keep none of them or of later ones."""
        items, self._items, self._finished = self._items, [], True
        return tuple({**item.content, "text": "".join(item.text)} if item.text else item.content for item in items)

    def _keep(self, output: Output) -> None:
        if self._clear:
            self.clear(wait=False)
        content = output.content
        if output.update:
            for item in self._items:
                if item.display_id == output.display_id:
                    item.content = content
        elif content["output_type"] != "stream":
            self._items.append(_Item(content, [], output.display_id))
        elif self._items and self._items[-1].text and self._items[-1].content["name"] == content["name"]:
            self._items[-1].text.append(str(content["text"]))
        else:
            self._items.append(_Item(content, [str(content["text"])], None))

    def _read(self, message: Envelope) -> Output | None:
        output: Output | None = None
        match message.header.msg_type:
            case "stream":
                if stream := decode_lenient(message.content, StreamContent):
                    output = Output({"output_type": "stream", "name": stream.name, "text": stream.text})
            case "display_data" | "update_display_data" | "execute_result" as kind:
                if display := decode_lenient(message.content, DisplayContent):
                    output = _display(display, kind)
            case "error":
                if error := decode_lenient(message.content, ErrorContent):
                    lines = [ANSI.sub("", line) for line in error.traceback]
                    self.error = ErrorContent(error.ename, error.evalue, lines)
                    output = Output({"output_type": "error", **msgspec.to_builtins(self.error)})
            case _:
                return None
        if output is None:
            self.cut += len(bytes(message.content))
        return output


def _display(display: DisplayContent, kind: str) -> Output:
    content: dict[str, JSON] = {"output_type": "display_data", "data": display.data, "metadata": display.metadata}
    if kind == "execute_result":
        content |= {"output_type": kind, "execution_count": display.execution_count}
    return Output(content, display.transient.display_id, kind == "update_display_data")
