"""What a run came to, from the first and the last records of its recording alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from rlm_kernel.errors import RecordingError
from rlm_kernel.events import SCHEMA_VERSION, RunOrigin, RunStatus
from rlm_kernel.recording.calls import plausible
from rlm_kernel.recording.find import run_folders
from rlm_kernel.recording.folder import EVENTS_FILE
from rlm_kernel.recording.liveness import is_written
from rlm_kernel.recording.log import LINE_LIMIT
from rlm_kernel.recording.reader import open_recording
from rlm_kernel.types import Usage

RunState: TypeAlias = RunStatus | Literal["running", "broken-off", "damaged"]
"""`broken-off`: it was killed, and nobody writes it any more; `damaged`: there is no recording that can be read."""

LONGEST = 2_000
"""Characters of a question, or of a problem, that a summary holds."""

_BLOCK = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One run. What its recording does not say at its beginning or its end is None: a broken-off run's cost, for one.

    `at` is its start, UTC in seconds since 1970, `seconds` how long it took, so far for one that is under way; `size`
    is the recording's, in bytes. `question` is the beginning of the first one, empty where none was asked yet.
    `problem` says what is wrong with a damaged recording, or what a run failed with.
    """

    run: str
    folder: Path
    status: RunState
    at: float | None = None
    seconds: float | None = None
    size: int = 0
    question: str = ""
    model: str = ""
    sub_model: str = ""
    turns: int | None = None
    subcalls: int | None = None
    usage: dict[str, Usage] | None = None
    origin: RunOrigin | None = None
    problem: str | None = None

    @property
    def used(self) -> Usage | None:
        """What its calls of all models used together."""
        return None if self.usage is None else sum(self.usage.values(), Usage())


class _Event(msgspec.Struct, frozen=True):
    """What is needed of a run's first and last events, and of its first question's."""

    type: str = ""
    run: str = ""
    question: str = ""
    model: str = ""
    sub_model: str = ""
    origin: RunOrigin | None = None
    status: RunStatus | None = None
    seconds: float = 0.0
    turns: int = 0
    subcalls: int | None = None
    usage: dict[str, Usage] = msgspec.field(default_factory=dict)
    error: str | None = None
    message: str | None = None


class _Line(msgspec.Struct, frozen=True):
    v: int
    at: float
    event: _Event
    node: str = ""


_LINE = msgspec.json.Decoder(_Line)


class _Damaged(Exception):
    """There is no summary; the text says why."""


@dataclass(slots=True)
class _Ends:
    """The first records of a file, up to a block of them, and its last whole one."""

    first: _Line
    early: list[_Line] = field(default_factory=list)
    last: _Line | None = None


def summaries(state_dir: Path) -> Iterator[RunSummary]:
    """Yield what each run in `state_dir` came to, the latest first, holding one at a time; damage is told, not raised.

    Of a recording of any length only some kilobytes are read, and its first and last lines.
    """
    for folder in run_folders(state_dir):
        if (summary := summarise(folder)) is not None:
            yield summary


def summarise(folder: Path) -> RunSummary | None:
    """Return what the run in `folder` came to; None if there is no such folder, or it is a link."""
    run = folder.name
    if folder.is_symlink() or not folder.is_dir():
        return None
    try:
        file = open_recording(folder / EVENTS_FILE, os.O_NOFOLLOW)
        try:
            return _summary(folder, file, os.fstat(file).st_size)
        finally:
            os.close(file)
    except (_Damaged, RecordingError) as error:
        return RunSummary(run=run, folder=folder, status="damaged", problem=str(error))
    except OSError as error:
        return RunSummary(run=run, folder=folder, status="damaged", problem=f"it can't be read: {error.strerror}")


def _summary(folder: Path, file: int, size: int) -> RunSummary:
    try:
        ends = _ends(file, size)
    except _Damaged:
        if is_written(folder / EVENTS_FILE):  # its first record is on its way
            return RunSummary(run=folder.name, folder=folder, status="running", size=size)
        raise
    started, at = ends.first.event, ends.first.at
    question = started.question or next((line.event.question for line in ends.early if line.event.question), "")
    known = RunSummary(
        run=folder.name,
        folder=folder,
        status="broken-off",
        at=at,
        size=size,
        question=question[:LONGEST],
        model=started.model,
        sub_model=started.sub_model,
        origin=started.origin,
    )
    last = ends.last
    if last is not None and last.event.type == "RunFinished" and not last.node and (status := last.event.status):
        end = last.event
        problem = f"{end.error}: {end.message or ''}"[:LONGEST] if end.error else None
        return replace(
            known,
            status=status,
            seconds=end.seconds,
            turns=end.turns,
            subcalls=end.subcalls,
            usage=end.usage,
            problem=problem,
        )
    seconds = None if last is None else max(0.0, last.at - at)
    return replace(known, status="running" if is_written(folder / EVENTS_FILE) else "broken-off", seconds=seconds)


def _ends(file: int, size: int) -> _Ends:
    head = os.pread(file, _BLOCK, 0)
    end = head.find(b"\n")
    if end < 0:
        end = _newline_after(file, len(head), min(size, LINE_LIMIT + 1))
        head = os.pread(file, end + 1, 0)
    first = _decoded(head[:end], "its first record")
    if first.event.type != "RunStarted" or first.node:
        raise _Damaged("it does not begin as a run does")
    ends = _Ends(first)
    for line in head[end + 1 :].split(b"\n")[:-1]:
        if b'"QuestionAsked"' in line[:200]:
            ends.early.append(_decoded(line, "its first question"))
            break
    if (place := _last_line(file, size)) is not None:
        ends.last = _decoded(os.pread(file, place[1] - place[0], place[0]), "its last record")
    return ends


def _decoded(line: bytes, what: str) -> _Line:
    try:
        decoded = _LINE.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _Damaged(f"{what} is not one: {error}") from None
    if decoded.v > SCHEMA_VERSION:
        raise _Damaged(f"a later version of this package wrote it (schema {decoded.v})")
    event = decoded.event
    amounts = (decoded.at, event.seconds, event.turns, event.subcalls)
    if not all(map(plausible, amounts)) or not plausible(None, *event.usage.values()):
        raise _Damaged(f"{what} has numbers that can't be")
    return decoded


def _newline_after(file: int, offset: int, end: int) -> int:
    while offset < end and (block := os.pread(file, _BLOCK, offset)):
        if (found := block.find(b"\n")) >= 0:
            return offset + found
        offset += len(block)
    raise _Damaged("it has no whole record")


def _last_line(file: int, size: int) -> tuple[int, int] | None:
    """Return where the last whole line begins and ends; None for an only line."""
    end = _newline_before(file, size)
    if end is None:
        return None
    start = _newline_before(file, end)
    return None if start is None else (start + 1, end)


def _newline_before(file: int, end: int) -> int | None:
    """Return where the last newline before `end` is, None if there is none. Raise `_Damaged` for too long a line."""
    least, block = max(0, end - LINE_LIMIT - 1), _BLOCK
    while end > least:
        start = max(least, end - block)
        found = os.pread(file, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found
        end, block = start, min(2 * block, 2**20)
    if least:
        raise _Damaged("its last record is longer than one may be")
    return None
