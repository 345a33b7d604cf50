"""Collects the outputs of one cell, shaped as in nbformat 4.5, within limits of the host's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from rlm_kernel.kernel.messages import MAX_COUNT, DisplayContent, Envelope, ErrorContent, StreamContent, decode_lenient
from rlm_kernel.text import ESCAPES
from rlm_kernel.types import JSON

MAX_BYTES = 16 * 1024 * 1024
MAX_OUTPUTS = 50_000
MAX_WEIGHT = 64 * 1024 * 1024
"""Bytes of memory that a cell's outputs may take once they are decoded, as `weight` estimates it."""

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_WEIGHTS = ((b",", 32), (b"[", 96), (b"{", 72), (b":", 128))


def weight(content: bytes) -> int:
    """Estimate the memory that JSON takes once it is decoded: a list of empty lists takes 24 times its length."""
    wide = not content.isascii() or b"\\u" in content  # one wide character makes each of its text take four bytes
    bare, strings = _STRING.subn(b"", content)
    return len(content) * (4 if wide else 1) + strings * 56 + sum(bare.count(mark) * each for mark, each in _WEIGHTS)


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
        self._size = self._weight = self._count = 0
        self._clear = False
        self._finished = False

    def add_cut(self, size: int) -> None:
        """Count bytes that were left out; a guest's claims add up to no more than a recording can hold."""
        self.cut = min(self.cut + size, MAX_COUNT)

    def take(self, message: Envelope) -> Output | None:
        """Keep the output that `message` carries and return it; None if it has none or is left out."""
        if message.header.msg_type not in _READERS:
            return None
        content = bytes(message.content)
        heavy = len(content) if message.header.msg_type == "stream" else weight(content)
        self._size += len(content)
        self._weight += heavy
        self._count += 1
        fits = self._size <= MAX_BYTES and self._weight <= MAX_WEIGHT and self._count <= MAX_OUTPUTS
        output = _READERS[message.header.msg_type](message) if fits else None
        if output is None:
            self.add_cut(len(content))
        elif not self._finished:
            self._keep(output)
        return output

    def clear(self, wait: bool) -> bool:
        """Forget the outputs so far, or with `wait` do so when the next one comes; False if that happened too often."""
        self._count += 1
        if self._count > MAX_OUTPUTS:
            return False
        self._clear = wait
        if not wait:
            self._items.clear()
        return True

    def finish(self) -> tuple[dict[str, JSON], ...]:
        """Return the outputs, successive text of one stream joined, and keep none of them or of later ones."""
        items, self._items, self.error, self._finished = self._items, [], None, True
        return tuple({**item.content, "text": "".join(item.text)} if item.text else item.content for item in items)

    def _keep(self, output: Output) -> None:
        if self._clear:
            self._clear = False
            self._items.clear()
        content = output.content
        if content["output_type"] == "error":
            self.error = msgspec.convert(content, ErrorContent)
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


def _stream(message: Envelope) -> Output | None:
    stream = decode_lenient(message.content, StreamContent)
    if stream is None:
        return None
    return Output({"output_type": "stream", "name": stream.name, "text": stream.text})


def _error(message: Envelope) -> Output | None:
    error = decode_lenient(message.content, ErrorContent)
    if error is None:
        return None
    lines: list[JSON] = [ESCAPES.sub("", line) for line in error.traceback]
    return Output({"output_type": "error", "ename": error.ename, "evalue": error.evalue, "traceback": lines})


def _display(message: Envelope) -> Output | None:
    display, kind = decode_lenient(message.content, DisplayContent), message.header.msg_type
    if display is None:
        return None
    content: dict[str, JSON] = {"output_type": "display_data", "data": display.data, "metadata": display.metadata}
    if kind == "execute_result":
        content |= {"output_type": kind, "execution_count": display.execution_count}
    return Output(content, display.transient.display_id, kind == "update_display_data")


_READERS = {
    "stream": _stream,
    "error": _error,
    "display_data": _display,
    "update_display_data": _display,
    "execute_result": _display,
}
