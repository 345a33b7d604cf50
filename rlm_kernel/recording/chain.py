"""The chain of a recording's lines: each names the one before it, so that one line stands for all of them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from rlm_kernel.errors import RecordingDamaged
from rlm_kernel.recording.heads import Head
from rlm_kernel.recording.log import line_digest
from rlm_kernel.recording.reader import NO_RECORD, check_head, check_place


class LeanEvent(msgspec.Struct, frozen=True):
    """What is needed of an event to find its place; the rest is not even decoded."""

    type: str = ""
    call: str = ""
    cell: int | None = None
    turn: int = 0
    ask: int = 0
    kind: str | None = None


class Line(msgspec.Struct, frozen=True):
    """A record without most of its event."""

    v: int
    seq: int
    at: float
    event: LeanEvent
    node: str = ""
    prev: str = ""


_LINE = msgspec.json.Decoder(Line)


class Chain:
    """The lines of one recording so far. `chained` is how many of them name the one before: none of version 1 does."""

    def __init__(self, path: Path) -> None:
        self.head = ""
        self.version = self.records = self.chained = 0
        self._path = path

    def take(self, line: bytes) -> Line:
        """Return what a line, its newline left out, is; it has to follow on the one before.

        Raise `RecordingTooNew` or `RecordingDamaged`.
        """
        number = self.records + 1
        try:
            record = _LINE.decode(line)
        except NO_RECORD as error:
            check_head(line, self._path, number)
            raise RecordingDamaged(f"{self._path}, line {number}: not a record: {error}") from error
        check_place(record, self._path, number)
        if record.v > 1 and record.prev != self.head:
            raise RecordingDamaged(
                f"{self._path}, line {number}: it does not follow on the line before it, one of them was changed"
            )
        if record.v < self.version:
            raise RecordingDamaged(f"{self._path}, line {number}: version {record.v} after version {self.version}")
        self.head, self.version, self.records = line_digest(line), record.v, number
        self.chained += record.v > 1
        return record

    def as_head(self) -> Head:
        """Return what stands for the lines so far."""
        return Head(digest=self.head, records=self.records)
