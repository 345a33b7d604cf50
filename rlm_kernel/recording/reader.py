"""Recordings as they are read: a stream of records, checked line by line."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, get_args

import msgspec

from rlm_kernel.errors import RecordingDamaged, RecordingError, RecordingTooNew
from rlm_kernel.events import SCHEMA_VERSION, AnyEvent, Record
from rlm_kernel.recording.log import LINE_LIMIT


class _Type(msgspec.Struct, frozen=True):
    """What every event has."""

    type: str = ""


class _Head(msgspec.Struct):
    """What every version of the schema has."""

    v: int
    seq: int = -1
    event: _Type = _Type()


_RECORD = msgspec.json.Decoder(Record)
_HEAD = msgspec.json.Decoder(_Head)
NO_RECORD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

KNOWN_EVENTS = frozenset(event.__name__ for event in get_args(AnyEvent))
"""The types of events that this package knows."""

MOST_VALUES = 6_000_000
"""Values that one line may hold, about: in memory a list takes twenty times the bytes that it has in the file. The
longest message of a container has fewer."""
_LATEST = 253_402_300_800.0
_NODE = re.compile(r"(?:s\d{1,9}(?:/s\d{1,9}){0,99})?", re.ASCII)


def read_events(
    path: Path,
    *,
    on_torn: Callable[[int], None] | None = None,
    on_unknown: Callable[[str], None] | None = None,
    line_limit: int = LINE_LIMIT,
) -> Iterator[Record]:
    """Yield the records of `path` in order, holding one line at a time.

    An event that this package does not know comes from a later one: it is left out, and `on_unknown` is told its type.
    A last line without its end is what a full disk or a power cut leaves: it is left out, and `on_torn` is told its
    length in bytes. Raise `RecordingTooNew` for a later schema, `RecordingDamaged` for any other line that is no
    record or out of sequence, `RecordingError` if the file can't be read.
    """
    with reading(path), os.fdopen(open_recording(path), "rb") as file:
        number = 0
        while line := read_line(file, path, number + 1, line_limit):
            number += 1
            if not line.endswith(b"\n"):
                if on_torn is not None:
                    on_torn(len(line))
                return
            record = decode_line(line, path, number)
            if isinstance(record, Record):
                yield record
            elif on_unknown is not None:
                on_unknown(record)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise an `OSError` of the block as a `RecordingError`."""
    try:
        yield
    except OSError as error:
        raise RecordingError(f"can't read the recording {path}: {error.strerror}") from error


def open_recording(path: Path, flags: int = 0) -> int:
    """Open a file for reading. Raise `OSError`, or `RecordingError` for a pipe or a device, which is not waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise RecordingError(f"{path} is no file, so it is no recording")
    return descriptor


def read_line(file: BinaryIO, path: Path, number: int, limit: int = LINE_LIMIT) -> bytes:
    """Read one line, empty at the file's end. Raise `RecordingDamaged` for one of over `limit` bytes."""
    line = file.readline(limit + 1)
    if len(line) > limit:
        raise RecordingDamaged(f"{path}, line {number}: longer than {limit} bytes")
    return line


def decode_line(line: bytes, path: Path, number: int) -> Record | str:
    """Decode one line, or return the type of an event that is not known.

    A later version is told apart before anything else of the line is judged.
    """
    kind = check_head(line, path, number)
    if kind and kind not in KNOWN_EVENTS:
        return kind
    where = f"{path}, line {number}"
    if holds_too_many(line):
        raise RecordingDamaged(f"{where}: more than {MOST_VALUES} values")
    try:
        record = _RECORD.decode(line)
    except NO_RECORD as error:
        raise RecordingDamaged(f"{where}: not a record: {error}") from error
    check_place(record.node, record.at, where)
    return record


def check_place(node: str, at: float, where: str) -> None:
    """Raise `RecordingDamaged` for a session whose name could not have been given, and for a time that no year has."""
    if not _NODE.fullmatch(node):
        raise RecordingDamaged(f"{where}: no session is called {node[:100]!r}")
    if not 0 <= at < _LATEST:
        raise RecordingDamaged(f"{where}: no time is {at}")


def holds_too_many(line: bytes) -> bool:
    """Tell whether a line of JSON holds so many values that it may not be decoded, without decoding it."""
    if _marks(line) <= MOST_VALUES:
        return False
    outside = line.replace(b"\\\\", b"").replace(b'\\"', b"")  # now each quote begins or ends a text
    if outside.count(b'"') > MOST_VALUES // 3:  # as each piece takes memory too
        return True
    return sum(map(_marks, outside.split(b'"')[::2])) > MOST_VALUES


def _marks(line: bytes) -> int:
    return sum(map(line.count, (b",", b":", b"[", b"{")))


def check_head(line: bytes, path: Path, number: int) -> str:
    """Return the type of a line's event. Raise `RecordingTooNew`, or `RecordingDamaged` for what is no record here."""
    where = f"{path}, line {number}"
    try:
        head = _HEAD.decode(line)
    except NO_RECORD as error:
        raise RecordingDamaged(f"{where}: not a record: {error}") from error
    if head.v > SCHEMA_VERSION:
        raise RecordingTooNew(
            f"{where}: written with version {head.v} of the schema, and this package reads up to "
            f"{SCHEMA_VERSION}. Install a later rlm_kernel."
        )
    if head.v < 1:
        raise RecordingDamaged(f"{where}: no schema has the version {head.v}")
    if head.seq != number - 1:
        raise RecordingDamaged(f"{where}: record {head.seq} where {number - 1} is due")
    return head.event.type
