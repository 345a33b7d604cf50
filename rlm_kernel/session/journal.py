"""The journal: what has to run again to make the kernel's variables anew, read from the events that are recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import msgspec

from rlm_kernel.budget import Budget
from rlm_kernel.events import (
    AnyEvent,
    CellFinished,
    CellInterrupted,
    CellOutput,
    CellOutputCleared,
    CellStarted,
    ContextChunked,
    EventSink,
    KernelLost,
    KernelRebuilt,
    ModelRetried,
    Notice,
    SubcallFailed,
    SubcallRefused,
    SubcallReplied,
    SubcallRequested,
    ToolFailed,
    ToolRefused,
    ToolReplied,
    ToolRequested,
)
from rlm_kernel.session.answers import CallKey, digest

MAX_BYTES = 64 * 1024 * 1024
"""Code and answers that a journal holds; with more it holds nothing."""

_CALL_COST = 200
_OF_CELLS = (
    CellStarted
    | CellOutput
    | CellOutputCleared
    | CellInterrupted
    | ContextChunked
    | CellFinished
    | SubcallRequested
    | SubcallReplied
    | SubcallFailed
    | SubcallRefused
    | ModelRetried
    | ToolRequested
    | ToolReplied
    | ToolFailed
    | ToolRefused
)


@dataclass(slots=True)
class JournalCall:
    """A sub-call of a cell: what was asked for, and the answer, or what the cell was told instead."""

    key: CallKey
    text: str | None = None
    code: str = "failed"
    told: str = ""


@dataclass(slots=True)
class JournalCell:
    """A cell that ended by itself, with its sub-calls in the order of asking."""

    cell: int
    turn: int
    code: str
    status: Literal["ok", "error"] = "ok"
    ename: str | None = None
    seconds: float = 0.0
    calls: list[JournalCall] = field(default_factory=list)


class Journal:
    """Keeps the cells whose code, run again in order, makes the variables that the kernel has.

    It is fed every event of a session, live or from a recording. A cell that was interrupted and left its kernel
    alive can't be run to the same point again: cells from there on are not kept.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.full = False
        """Whether there was more than it may hold, so that it holds nothing any more."""
        self._room = max_bytes
        self._cells: list[JournalCell] = []
        self._running: JournalCell | None = None
        self._calls: dict[str, JournalCall] = {}
        self._lost = False
        self._cut: str | None = None

    @property
    def cut(self) -> str | None:
        """Why cells after those that are kept can't be run again; None where all are kept."""
        return self._cut

    def cells(self) -> list[JournalCell]:
        """Return the cells so far; after a `KernelLost`, up to the next cell, those that made what is lost."""
        return list(self._cells)

    def emit(self, event: AnyEvent) -> None:
        """Take note of `event`."""
        if self.full:
            return
        match event:
            case CellStarted():
                self._start(event)
            case CellFinished() if self._running is not None and event.cell == self._running.cell:
                self._finish(self._running, event)
            case KernelLost():
                self._lost = True
            case KernelRebuilt():
                self._cells = [cell for cell in self._cells if cell.cell in event.cells]
                self._lost, self._cut = False, event.failed
            case _:
                self._note_call(event)

    def _note_call(self, event: AnyEvent) -> None:
        match event:
            case SubcallRequested() if self._running is not None and event.cell == self._running.cell:
                images = tuple(image.digest for image in event.images)
                key = CallKey(event.kind, event.asked, digest(event.prompt), event.context_digest, images)
                self._ask(self._running, event.call, key)
            case ToolRequested() if self._running is not None and event.cell == self._running.cell:
                self._ask(self._running, event.call, CallKey("tool", event.tool, digest(event.arguments)))
            case ToolReplied() if (call := self._calls.pop(event.call, None)) is not None:
                call.text = event.result
                self._take(len(event.result))
            case SubcallReplied() if (call := self._calls.pop(event.call, None)) is not None:
                call.text = event.text
                self._take(len(event.text))
            case SubcallFailed() | ToolFailed() if (call := self._calls.pop(event.call, None)) is not None:
                call.code, call.told = event.code, event.told

    def _ask(self, cell: JournalCell, name: str, key: CallKey) -> None:
        self._calls[name] = call = JournalCall(key)
        cell.calls.append(call)
        self._take(_CALL_COST)

    def _start(self, event: CellStarted) -> None:
        if self._lost:
            self._cells, self._lost, self._cut = [], False, None
        self._running = JournalCell(event.cell, event.turn, event.code)
        self._take(len(event.code))

    def _finish(self, cell: JournalCell, event: CellFinished) -> None:
        self._running = None
        if self._lost:
            return
        if event.status not in ("ok", "error"):
            self._cut = self._cut or f"cell {cell.cell} was interrupted, and would not stop at the same point again"
        elif self._cut is None:
            cell.status, cell.ename, cell.seconds = event.status, event.ename, event.seconds
            self._cells.append(cell)

    def _take(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            self.full, self._cells, self._running, self._calls = True, [], None, {}


class JournalingSink:
    """Passes events on, counts cells' output and, if there is a journal, keeps it.

    While cells are run again, their events are left out.
    """

    def __init__(self, sink: EventSink, journal: Journal | None, budget: Budget | None = None) -> None:
        self.journal = journal
        self._budget = budget or Budget()
        self.rebuilding = False
        self._sink = sink

    def emit(self, event: AnyEvent) -> None:
        """Record `event`, then take note of it."""
        if self.rebuilding and isinstance(event, _OF_CELLS):
            return
        self._sink.emit(event)
        if isinstance(event, CellOutput):
            self._budget.add_output(len(msgspec.json.encode(event.output)))
        if self.journal is not None:
            was_full = self.journal.full
            self.journal.emit(event)
            if self.journal.full and not was_full:
                self._sink.emit(Notice(message="cells and answers take too much memory to be kept for a rebuild"))
