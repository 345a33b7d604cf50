"""Recordings as they are read: a stream of records, checked line by line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from rlm_kernel.errors import RecordingDamaged, RecordingError, RecordingTooNew
from rlm_kernel.events import SCHEMA_VERSION, Record
from rlm_kernel.recording.log import LINE_LIMIT


class _Head(msgspec.Struct):
    """What every version of the schema has."""

    v: int


_RECORD = msgspec.json.Decoder(Record)
_HEAD = msgspec.json.Decoder(_Head)


def read_events(
    path: Path, *, on_torn: Callable[[int], None] | None = None, line_limit: int = LINE_LIMIT
) -> Iterator[Record]:
    """Yield the records of `path` in order, holding one line at a time.

    A last line without its end is what a full disk or a power cut leaves: it is left out, and `on_torn` is told its
    length in bytes. Raise `RecordingTooNew` for a later schema, `RecordingDamaged` for any other line that is no
    record or out of sequence, `RecordingError` if the file can't be read.
    """
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(line_limit + 1):
                number += 1
                if len(line) > line_limit:
                    raise RecordingDamaged(f"{path}, line {number}: longer than {line_limit} bytes")
                if not line.endswith(b"\n"):
                    if on_torn is not None:
                        on_torn(len(line))
                    return
                yield _record(line, path, number)
    except OSError as error:
        raise RecordingError(f"can't read the recording {path}: {error.strerror}") from error


def _record(line: bytes, path: Path, number: int) -> Record:
    """Decode one line; a later version is told apart before anything else of the line is judged."""
    where = f"{path}, line {number}"
    try:
        version = _HEAD.decode(line).v
        if version > SCHEMA_VERSION:
            raise RecordingTooNew(
                f"{where}: written with version {version} of the schema, and this package reads up to "
                f"{SCHEMA_VERSION}. Install a later rlm_kernel."
            )
        record = _RECORD.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordingDamaged(f"{where}: not a record: {error}") from error
    if record.v != SCHEMA_VERSION:
        raise RecordingDamaged(f"{where}: no schema has the version {record.v}")
    if record.seq != number - 1:
        raise RecordingDamaged(f"{where}: record {record.seq} where {number - 1} is due")
    return record
