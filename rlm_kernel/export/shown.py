"""A cell's outputs as a document may hold them: nothing of them runs or fetches, whoever opens or trusts it."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, replace

import msgspec

from rlm_kernel.export.tables import plain_table
from rlm_kernel.export.text import joined, one_line, shortened
from rlm_kernel.pictures import look_at
from rlm_kernel.types import JSON

_PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_SVG = "image/svg+xml"
_MAX_DEPTH = 50
"""Values in values that JSON may have; other programs' parsers give up at some hundred."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Text that a cell printed; `name` is stdout or stderr."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Failure:
    """An error that a cell ended with."""

    ename: str
    evalue: str
    traceback: list[str]


@dataclass(frozen=True, slots=True)
class Picture:
    """An image whose bytes are what they claim; `data` is Base64, `width` and `height` what it is to be shown with."""

    media_type: str
    data: str
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, slots=True)
class Display:
    """What a cell displayed, in each form that is harmless; `count` is set for the value of its last expression.

    `table` is HTML of our own making, `svg` an SVG image's source, `left_out` names each form that is not here.
    """

    text: str | None
    markdown: str | None
    table: str | None
    pictures: tuple[Picture, ...]
    svg: str | None
    left_out: tuple[str, ...]
    is_result: bool = False
    count: int | None = None


Shown = Stream | Failure | Display


def shown(output: dict[str, JSON]) -> Shown:
    """Return what may be shown of a recorded output, whatever it holds."""
    kind = output.get("output_type")
    if kind == "stream":
        return Stream("stderr" if output.get("name") == "stderr" else "stdout", joined(output.get("text")))
    if kind == "error":
        frames = output.get("traceback")
        lines = [joined(frame) for frame in frames] if isinstance(frames, list) else []
        return Failure(joined(output.get("ename")), joined(output.get("evalue")), lines)
    data, metadata = output.get("data"), output.get("metadata")
    count = output.get("execution_count")
    return _display(
        data if isinstance(data, dict) else {},
        metadata if isinstance(metadata, dict) else {},
        is_result=kind == "execute_result",
        count=count if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 2**31 else None,
    )


def shorter(output: Shown, limit: int | None) -> Shown:
    """Return an output with at most the first `limit` characters of each text."""
    match output:
        case Stream():
            return Stream(output.name, shortened(output.text, limit))
        case Display():
            text = None if output.text is None else shortened(output.text, limit)
            markdown = None if output.markdown is None else shortened(output.markdown, limit)
            return replace(output, text=text, markdown=markdown)
    return output


def _display(data: dict[str, JSON], metadata: dict[str, JSON], *, is_result: bool, count: int | None) -> Display:
    text = joined(data["text/plain"]) if "text/plain" in data else None
    table = svg = None
    pictures, left_out = [], []
    for kind, value in data.items():
        if kind in _PICTURES:
            try:
                pictures.append(_picture(joined(value), metadata.get(kind)))
            except ValueError as error:
                left_out.append(f"{kind}, left out: {error}")
        elif kind == "text/html" and (made := plain_table(joined(value))) is not None:
            table = made
        elif kind == _SVG:
            svg = joined(value)
        elif kind == "application/json" and text is None and (written := _json(value)) is not None:
            text = written
        elif kind not in ("text/plain", "text/markdown"):
            left_out.append(f"{one_line(kind)[:80]}, left out")
    markdown = joined(data["text/markdown"]) if "text/markdown" in data else None
    return Display(text, markdown, table, tuple(pictures), svg, tuple(left_out), is_result, count)


def _picture(text: str, metadata: JSON) -> Picture:
    """Return an image by what its bytes are. Raise `ValueError` for what is none."""
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("it is no Base64") from None
    found = look_at(data)
    return Picture(found.media_type, base64.b64encode(data).decode(), *_size(metadata))


def _size(metadata: JSON) -> tuple[int | None, int | None]:
    if not isinstance(metadata, dict):
        return None, None
    width, height = metadata.get("width"), metadata.get("height")
    return _side(width), _side(height)


def _side(value: JSON) -> int | None:
    return int(value) if isinstance(value, int | float) and 1 <= value <= 10_000 else None


def _json(value: JSON) -> str | None:
    if _deeper(value, _MAX_DEPTH):
        return None
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _deeper(value: JSON, limit: int) -> bool:
    """Tell whether `value` has more than `limit` values in values."""
    level: list[JSON] = [value]
    for _ in range(limit):
        level = [
            item
            for each in level
            if isinstance(each, list | dict)
            for item in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return True
