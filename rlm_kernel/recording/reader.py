"""Recordings as they are read: a stream of records, checked line by line."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, get_args

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
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> RecordingError:
    """Return what to raise where a recording can't be read."""
    return RecordingError(f"can't read the recording {path}: {error.strerror}")


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
    if holds_too_many(line):
        return _unknown(line, path, number, f"more than {MOST_VALUES} values")
    try:
        record = _RECORD.decode(line)
    except NO_RECORD as error:
        return _unknown(line, path, number, f"not a record: {error}")
    check_place(record, path, number)
    return record


def _unknown(line: bytes, path: Path, number: int, problem: str) -> str:
    """Return the type of an event that is not known. Raise `RecordingDamaged` with `problem` for one that is."""
    kind = check_head(line, path, number)
    if kind and kind not in KNOWN_EVENTS:
        return kind
    raise RecordingDamaged(f"{path}, line {number}: {problem}")


class Placed(Protocol):
    """What tells where a line belongs."""

    @property
    def v(self) -> int: ...
    @property
    def seq(self) -> int: ...
    @property
    def node(self) -> str: ...
    @property
    def at(self) -> float: ...


def check_place(record: Placed, path: Path, number: int) -> None:
    """Raise `RecordingTooNew`, or `RecordingDamaged` for a record that is not due here, a session whose name could not
    have been given, and a time that no year has."""
    _check_version(record.v, record.seq, path, number)
    if record.node and not _NODE.fullmatch(record.node):
        raise RecordingDamaged(f"{path}, line {number}: no session is called {record.node[:100]!r}")
    if not 0 <= record.at < _LATEST:
        raise RecordingDamaged(f"{path}, line {number}: no time is {record.at}")


def holds_too_many(line: bytes) -> bool:
    """Tell whether a line of JSON holds so many values that it may not be decoded, without decoding it."""
    if len(line) <= MOST_VALUES or _marks(line) <= MOST_VALUES:
        return False
    outside = line.replace(b"\\\\", b"").replace(b'\\"', b"")  # now each quote begins or ends a text
    if outside.count(b'"') > MOST_VALUES // 3:  # as each piece takes memory too
        return True
    return sum(map(_marks, outside.split(b'"')[::2])) > MOST_VALUES


def _marks(line: bytes) -> int:
    return sum(map(line.count, (b",", b":", b"[", b"{")))


def check_head(line: bytes, path: Path, number: int) -> str:
    """Return the type of a line's event. Raise `RecordingTooNew`, or `RecordingDamaged` for what is no record here."""
    try:
        head = _HEAD.decode(line)
    except NO_RECORD as error:
        raise RecordingDamaged(f"{path}, line {number}: not a record: {error}") from error
    _check_version(head.v, head.seq, path, number)
    return head.event.type


def _check_version(version: int, seq: int, path: Path, number: int) -> None:
    if version > SCHEMA_VERSION:
        raise RecordingTooNew(
            f"{path}, line {number}: written with version {version} of the schema, and this package reads up to "
            f"{SCHEMA_VERSION}. Install a later rlm_kernel."
        )
    if version < 1:
        raise RecordingDamaged(f"{path}, line {number}: no schema has the version {version}")
    if seq != number - 1:
        raise RecordingDamaged(f"{path}, line {number}: record {seq} where {number - 1} is due")
