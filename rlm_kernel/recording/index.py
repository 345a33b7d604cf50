"""A recording that is read at any place: where each record lies, and what belongs to what."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar

import msgspec

from rlm_kernel.errors import RecordingDamaged, RecordingError
from rlm_kernel.events import AnyEvent, ContextStored, Event, Record, RunFinished, RunStarted
from rlm_kernel.recording.chain import Chain, LeanEvent
from rlm_kernel.recording.reader import (
    KNOWN_EVENTS,
    NO_RECORD,
    decode_line,
    open_recording,
    read_line,
    reading,
    unreadable,
)

CallKind = Literal["llm", "rlm", "tool"]
E = TypeVar("E", bound=Event)
T = TypeVar("T")

MOST_NODES = 100_000
"""Sessions that one recording may have; each takes some hundred bytes of memory."""
MOST_PARTS = 2_000_000
"""Questions, turns, requests, cells and calls that it may have; as each takes as much."""
LONGEST_NAME = 200
"""Characters of a call's name, which the host gives, or of an unknown event's that is kept."""
MOST_UNKNOWN = 100
"""Types of unknown events that are told apart."""
_PARTS = frozenset(
    ["QuestionAsked", "TurnStarted", "ModelRequested", "CellStarted", "SubcallRequested", "ToolRequested"]
)


@dataclass(slots=True)
class Call:
    """A sub-call or a tool call that the host took; `requested` and `ended` are numbers of records."""

    name: str
    kind: CallKind
    cell: int
    requested: int
    ended: int | None = None


@dataclass(slots=True)
class RootCall:
    """A request to the root model, and what ended it."""

    name: str
    requested: int
    ended: int | None = None


@dataclass(slots=True)
class Cell:
    """A cell; `outputs` are its outputs and their clearings in order, `others` what else is told of it."""

    number: int
    turn: int
    started: int
    finished: int | None = None
    outputs: array[int] = field(default_factory=lambda: array("Q"))
    others: array[int] = field(default_factory=lambda: array("Q"))
    calls: list[Call] = field(default_factory=list)


@dataclass(slots=True)
class Turn:
    """A turn: what the root model was asked (more than once where the conversation was compacted), and its cells."""

    number: int
    started: int
    asked: list[RootCall] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)


@dataclass(slots=True)
class Question:
    """A question, from `QuestionAsked` to its `AnswerGiven` or `QuestionFailed`, None where it has no end."""

    number: int
    asked: int
    ended: int | None = None
    turns: list[Turn] = field(default_factory=list)


@dataclass(slots=True)
class Node:
    """A session of the run: its own is "", the others are those that its sub-calls started.

    `others` are the records of neither questions, turns nor cells: contexts, sandboxes, kernels, notices.
    """

    path: str
    started: int | None = None
    finished: int | None = None
    contexts: array[int] = field(default_factory=lambda: array("Q"))
    sandboxes: array[int] = field(default_factory=lambda: array("Q"))
    others: array[int] = field(default_factory=lambda: array("Q"))
    questions: list[Question] = field(default_factory=list)
    cells: dict[int, Cell] = field(default_factory=dict)
    calls: dict[str, Call] = field(default_factory=dict)


class Recording:
    """A recording on disk, with an index of it in memory (some hundred bytes a record) and no record.

    Use as a context manager, or `close` it. It holds what was there when it was opened.
    """

    def __init__(self, path: Path, *, partial: bool = False) -> None:
        """Read `path` once. With `partial` damage is no error: what stands before it is there, `damage` tells of it.

        Raise `RecordingTooNew`, `RecordingDamaged` for a line that is no record, is out of sequence or does not follow
        on the line before (see `prev`), and `RecordingError` if there is none that can be read.
        """
        self.path = path
        self.damage: str | None = None
        """What is wrong at the end of what was read; None for a whole recording."""
        self.torn = 0
        """Bytes of a last line without its end."""
        self.unknown: dict[str, int] = {}
        """How many events of each type there are that this package does not know; beyond some types, of all others."""
        self.first_at = self.last_at = 0.0
        self.nodes: dict[str, Node] = {}
        self._offsets = array("Q")
        self._requests: dict[tuple[str, str], RootCall] = {}
        self._parts = 0
        self._chain = Chain(path)
        with reading(path):
            self._file = open_recording(path)
        try:
            self._read(partial=partial)
        except BaseException:  # nobody else knows of the file yet, to close it
            self.close()
            raise

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return max(0, len(self._offsets) - 1)

    @property
    def size(self) -> int:
        """The bytes of what was read."""
        return self._offsets[-1]

    @property
    def has_grown(self) -> bool:
        """Whether the file has more by now than was read."""
        return os.fstat(self._file).st_size > self.size + self.torn

    @property
    def version(self) -> int:
        """The version of the schema that the last line has."""
        return self._chain.version

    @property
    def head(self) -> str:
        """SHA-256 of the last line."""
        return self._chain.head

    @property
    def root(self) -> Node:
        """The run's own session."""
        return self.nodes[""]

    @property
    def started(self) -> RunStarted:
        """The run's first event."""
        assert self.root.started is not None
        return self.expect(self.root.started, RunStarted)

    @property
    def finished(self) -> RunFinished | None:
        """The run's last event, None for one that was killed or still goes on."""
        return None if self.root.finished is None else self.expect(self.root.finished, RunFinished)

    def contexts(self, node: str = "") -> list[ContextStored]:
        """Return what a session's contexts are."""
        return [self.expect(seq, ContextStored) for seq in self.nodes[node].contexts]

    def line(self, seq: int) -> bytes:
        """Return a record as it is written, without its newline."""
        begin, end = self._offsets[seq], self._offsets[seq + 1]
        try:
            line = os.pread(self._file, end - begin - 1, begin)
        except OSError as error:
            raise unreadable(self.path, error) from error
        if len(line) < end - begin - 1:
            raise RecordingDamaged(f"{self.path}, line {seq + 1}: the file became shorter while it was read")
        return line

    def record(self, seq: int) -> Record:
        """Return a record. Raise `RecordingDamaged` if it is none, or its event is not known."""
        record = decode_line(self.line(seq), self.path, seq + 1)
        if not isinstance(record, Record):
            raise RecordingDamaged(f"{self.path}, line {seq + 1}: this package knows no event {record[:100]!r}")
        return record

    def part(self, seq: int, decoder: msgspec.json.Decoder[T]) -> T:
        """Return what `decoder` takes of a record. Raise `RecordingDamaged` for what it can't."""
        try:
            return decoder.decode(self.line(seq))
        except NO_RECORD as error:
            raise RecordingDamaged(f"{self.path}, line {seq + 1}: not a record: {error}") from error

    def event(self, seq: int) -> AnyEvent:
        """Return a record's event."""
        return self.record(seq).event

    def expect(self, seq: int, kind: type[E]) -> E:
        """Return an event that is of `kind`."""
        event = self.event(seq)
        if not isinstance(event, kind):
            raise RecordingDamaged(f"{self.path}, line {seq + 1}: a {type(event).__name__}, not a {kind.__name__}")
        return event

    def records(self) -> Iterator[Record]:
        """Yield every record whose event is known, in order, holding one at a time."""
        for seq in range(len(self)):
            record = decode_line(self.line(seq), self.path, seq + 1)
            if isinstance(record, Record):
                yield record

    def _read(self, *, partial: bool) -> None:
        with reading(self.path), os.fdopen(os.dup(self._file), "rb") as file:
            offset, size = 0, os.fstat(self._file).st_size
            try:
                while offset < size and (line := read_line(file, self.path, len(self._offsets) + 1)):
                    if not line.endswith(b"\n"):
                        self.torn = len(line)
                        break
                    self._take(line[:-1])
                    self._offsets.append(offset)
                    offset += len(line)
            except RecordingDamaged as error:
                if not partial:
                    raise
                self.damage = str(error)
            self._offsets.append(offset)
        if "" not in self.nodes or self.root.started != 0:
            raise RecordingError(f"{self.path} holds no run: its first record is missing or not that of a run")

    def _take(self, line: bytes) -> None:
        record = self._chain.take(line)
        self.first_at, self.last_at = self.first_at or record.at, record.at
        if record.event.type not in KNOWN_EVENTS:
            name = record.event.type[:LONGEST_NAME]
            name = name if name in self.unknown or len(self.unknown) < MOST_UNKNOWN else "others"
            self.unknown[name] = self.unknown.get(name, 0) + 1
            return
        self._check_bounds(record.event, record.seq)
        node = self.nodes.get(record.node)
        if node is None:
            if len(self.nodes) == MOST_NODES:
                raise RecordingDamaged(f"{self.path}, line {record.seq + 1}: more than {MOST_NODES} sessions")
            node = self.nodes[record.node] = Node(record.node)
        self._place(node, record.event, record.seq)

    def _check_bounds(self, event: LeanEvent, seq: int) -> None:
        """Raise `RecordingDamaged` for what would fill the memory with its index."""
        self._parts += event.type in _PARTS
        if self._parts > MOST_PARTS:
            raise RecordingDamaged(
                f"{self.path}, line {seq + 1}: more than {MOST_PARTS} questions, turns, requests, cells and calls"
            )
        if len(event.call) > LONGEST_NAME:
            raise RecordingDamaged(f"{self.path}, line {seq + 1}: no call is called {event.call[:100]!r}…")

    def _place(self, node: Node, event: LeanEvent, seq: int) -> None:
        match event.type:
            case "RunStarted" if node.started is None:
                node.started = seq
            case "RunFinished":
                node.finished = seq
            case "ContextStored":
                node.contexts.append(seq)
            case "SandboxStarted":
                node.sandboxes.append(seq)
            case "QuestionAsked":
                node.questions.append(Question(event.ask, seq))
            case "AnswerGiven" | "QuestionFailed" if node.questions:
                node.questions[-1].ended = seq
            case "TurnStarted" if node.questions:
                node.questions[-1].turns.append(Turn(event.turn, seq))
            case "ModelRequested" if turn := _turn(node):
                asked = self._requests[node.path, event.call] = RootCall(event.call, seq)
                turn.asked.append(asked)
            case "ModelReplied" | "ModelFailed" if (node.path, event.call) in self._requests:
                self._requests.pop((node.path, event.call)).ended = seq
            case _:
                self._place_in_cell(node, event, seq)

    def _place_in_cell(self, node: Node, event: LeanEvent, seq: int) -> None:
        cell = node.cells.get(event.cell or 0)
        match event.type:
            case "CellStarted" if turn := _turn(node):
                cell = node.cells[event.cell or 0] = Cell(event.cell or 0, event.turn, seq)
                turn.cells.append(cell)
            case "CellFinished" if cell is not None:
                cell.finished = seq
            case "CellOutput" | "CellOutputCleared" if cell is not None:
                cell.outputs.append(seq)
            case "SubcallRequested" | "ToolRequested" if cell is not None:
                kind: CallKind = "tool" if event.type == "ToolRequested" else "rlm" if event.kind == "rlm" else "llm"
                call = node.calls[event.call] = Call(event.call, kind, cell.number, seq)
                cell.calls.append(call)
            case "SubcallReplied" | "SubcallFailed" | "ToolReplied" | "ToolFailed" if event.call in node.calls:
                node.calls[event.call].ended = seq
            case _ if cell is not None:
                cell.others.append(seq)
            case _:
                node.others.append(seq)


def _turn(node: Node) -> Turn | None:
    """Return the turn that goes on."""
    return node.questions[-1].turns[-1] if node.questions and node.questions[-1].turns else None
