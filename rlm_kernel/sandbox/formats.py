"""Tables and lines of JSON as they are read: checked piece by piece, and turned into one JSON list."""

from __future__ import annotations

import csv
import itertools
import json
import mmap
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import msgspec

from rlm_kernel.errors import ContextError
from rlm_kernel.sandbox.blob import decoded
from rlm_kernel.types import JSON

FormName = Literal["text", "table", "json", "jsonl"]


@dataclass(frozen=True, slots=True)
class Form:
    """What a file is read as; all but text become a JSON value. A `delimiter` not given is found in the file."""

    name: FormName = "text"
    delimiter: str | None = None


TEXT = Form()
LONGEST_CELL = 16 * 1024 * 1024
_DELIMITERS = ",;\t|"
_BOM = "\ufeff"


class Converter:
    """Reads the pieces of one file; `value_size` is about what its rows take as Python objects, in bytes."""

    def __init__(self, form: Form, source: str) -> None:
        self.value_size = 0
        self._form = form
        self._source = source

    def read(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the JSON text. Raise a `ContextError` that names the line, `NotUtf8`, or what `pieces` raises."""
        match self._form.name:
            case "table":
                return _listed(self._rows(_lines(pieces)))
            case "jsonl":
                return _listed(self._values(_lines(pieces)))
            case _:
                return (text.encode() for text in _texts(pieces))

    def _rows(self, lines: Iterator[str]) -> Iterator[str]:
        first = next((line for line in lines if line.strip()), None)
        if first is None:
            raise ContextError(f"the table {self._source} is empty: its first line has to name the columns")
        csv.field_size_limit(max(LONGEST_CELL, csv.field_size_limit()))
        reader = csv.reader(
            itertools.chain((first,), lines), delimiter=self._form.delimiter or _guessed(first), strict=True
        )
        try:
            columns = next(reader)
            if twice := sorted({name for name in columns if columns.count(name) > 1}):
                raise ContextError(f"the table {self._source} has two columns called {twice[0][:100]!r}")
            for cells in reader:
                if cells:
                    yield self._row(columns, cells, reader.line_num)
        except csv.Error as error:
            raise ContextError(f"the table {self._source} can't be read at line {reader.line_num}: {error}") from None

    def _row(self, columns: list[str], cells: list[str], line: int) -> str:
        if len(cells) > len(columns):
            raise ContextError(
                f"the table {self._source} has {len(cells)} cells in line {line} and {len(columns)} columns: "
                "cells that hold the delimiter or a line's end have to be in quotes"
            )
        row = dict.fromkeys(columns) | dict(zip(columns, cells, strict=False))
        self.value_size += sys.getsizeof(row) + sum(map(sys.getsizeof, cells))
        return json.dumps(row, ensure_ascii=False)

    def _values(self, lines: Iterator[str]) -> Iterator[str]:
        for number, line in enumerate(lines, 1):
            if text := line.strip():
                check_json(text.encode(), f"line {number} of {self._source}")
                yield text


def check_json(text: bytes | mmap.mmap, source: str) -> None:
    """Raise `ContextError` for what is not one JSON value; nothing is built of it."""
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ContextError(f"{source} is not JSON: {error}") from None


def as_json(value: Any) -> str:
    """Return a value as JSON text; a data frame (pandas, polars) as a list of its rows, each a dict.

    Raise `TypeError` or `ValueError`.
    """
    if isinstance(value, msgspec.Raw):
        return bytes(value).decode()
    if hasattr(value, "to_dicts"):
        value = value.to_dicts()
    elif hasattr(value, "to_dict") and hasattr(value, "columns"):
        value = value.to_dict("records")
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> JSON:
    """Return as JSON what is not of its own types: a data frame's cells (moments as ISO 8601, other libraries' numbers
    as such), and mappings and sequences that are no `dict` and no `list`.
    """
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return list(value)
    if type(value).__name__ in ("NaTType", "NAType"):
        return None
    if isinstance(value, Decimal | timedelta | UUID):
        return str(value)
    for method in ("isoformat", "item"):
        if hasattr(value, method):
            plain: JSON = getattr(value, method)()
            return plain
    raise TypeError(f"a {type(value).__name__} is no JSON value")


def _texts(pieces: Iterable[bytes]) -> Iterator[str]:
    """Yield the text of `pieces`, without a byte order mark."""
    texts = (text for _, text in decoded(pieces) if text)
    if first := next(texts, "").removeprefix(_BOM):
        yield first
    yield from texts


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """Yield lines with their ends."""
    begun: list[str] = []
    for text in _texts(pieces):
        *whole, rest = text.split("\n")
        for line in whole:
            yield "".join((*begun, line, "\n"))
            begun.clear()
        if rest:
            begun.append(rest)
    if begun:
        yield "".join(begun)


def _guessed(header: str) -> str:
    """Return the delimiter that the first line holds most of, a comma where it holds none."""
    return max(_DELIMITERS, key=header.count)


def _listed(texts: Iterator[str]) -> Iterator[bytes]:
    """Yield a JSON list of `texts`, in pieces of many items."""
    waiting, size, before = ["["], 0, ""
    for text in texts:
        waiting.append(before + text)
        before = ",\n"
        size += len(text)
        if size > 1 << 20:
            yield "".join(waiting).encode()
            waiting, size = [], 0
    yield "".join((*waiting, "]")).encode()
