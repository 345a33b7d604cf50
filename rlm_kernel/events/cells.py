"""Events of cells: their beginning, their outputs and their end."""

from __future__ import annotations

from typing import Literal

from rlm_kernel.events.base import Event
from rlm_kernel.types import JSON

CellStatus = Literal["ok", "error", "timed_out", "interrupted", "kernel_died"]
InterruptReason = Literal["timed_out", "stopped", "budget"]
InterruptStep = Literal["sigint", "cancel", "restart", "replace"]


class CellStarted(Event, frozen=True, kw_only=True):
    """A cell is about to run; cells are counted from 1."""

    cell: int
    turn: int
    code: str


class CellOutput(Event, frozen=True, kw_only=True):
    """One output of a cell, shaped as in nbformat 4.5. `late`: it came after the cell had ended.

    `display_id` names a display that a later output may change; with `update` this output takes the place of the
    displays of that name, as in a notebook.
    """

    cell: int
    output: dict[str, JSON]
    late: bool = False
    display_id: str | None = None
    update: bool = False


class CellOutputCleared(Event, frozen=True, kw_only=True):
    """A cell took back its outputs so far, as progress bars do; with `wait`, when the next output comes."""

    cell: int
    wait: bool = False


class ContextChunked(Event, frozen=True, kw_only=True):
    """A cell cut a text, as a rule its context, into chunks; that is what the guest says.

    All lengths are in characters: `characters` of all chunks together, the `shortest` and the `longest`, and the `size`
    and `overlap` that were asked for. Of a cell's calls the first 100 are recorded.
    """

    cell: int
    strategy: str
    chunks: int
    characters: int
    shortest: int
    longest: int
    size: int
    overlap: int


class CellInterrupted(Event, frozen=True, kw_only=True):
    """A step is taken to end a cell, `seconds` after its start; a step follows when the one before it was no use.

    "sigint" is the signal, "cancel" comes from another thread of the kernel's, "restart" ends all processes and starts
    a new kernel, and "replace", which comes after the cell's end, starts a new container.
    """

    cell: int
    step: InterruptStep
    reason: InterruptReason
    seconds: float


class CellFinished(Event, frozen=True, kw_only=True):
    """A cell's end. `cut` is about how many bytes of output were left out; `final` is what it gave as an answer."""

    cell: int
    status: CellStatus
    seconds: float
    execution_count: int | None = None
    ename: str | None = None
    evalue: str | None = None
    cut: int = 0
    final: JSON = None
    final_source: Literal["FINAL", "FINAL_VAR", "answer"] | None = None
