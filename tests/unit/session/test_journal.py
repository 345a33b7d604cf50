"""The journal: which cells, with which answers, make the kernel's variables."""

from __future__ import annotations

import msgspec
import pytest

from rlm_kernel.events import (
    AnyEvent,
    CellFinished,
    CellOutput,
    CellStarted,
    CellStatus,
    KernelLost,
    KernelRebuilt,
    Notice,
    SubcallFailed,
    SubcallReplied,
    SubcallRequested,
)
from rlm_kernel.session.answers import CallKey, digest
from rlm_kernel.session.journal import Journal, JournalingSink
from rlm_kernel.types import Usage
from tests.support.sinks import Events


def cell(number: int, status: CellStatus = "ok", *between: AnyEvent) -> list[AnyEvent]:
    """Return the events of one cell."""
    started = CellStarted(cell=number, turn=number, code=f"code {number}")
    return [started, *between, CellFinished(cell=number, status=status, seconds=1.5)]


def asked(call: str, number: int, prompt: str) -> SubcallRequested:
    """Return the event of a sub-call."""
    return SubcallRequested(call=call, cell=number, model="m", prompt=prompt)


def replied(call: str, text: str) -> SubcallReplied:
    """Return the event of its answer."""
    return SubcallReplied(
        call=call, text=text, finish_reason="stop", usage=Usage(), seconds=1, attempts=1, served_by="m"
    )


LOST = KernelLost(generation=1, reason="it died", lost=["x"])


def journal_of(*events: AnyEvent) -> Journal:
    """Return a journal that has read `events` as they stand in a recording."""
    journal = Journal()
    for event in events:
        journal.emit(msgspec.json.decode(msgspec.json.encode(event), type=AnyEvent))
    return journal


def numbers(journal: Journal) -> list[int]:
    """Return the kept cells' numbers."""
    return [kept.cell for kept in journal.cells()]


def test_cells_that_ended_by_themselves_are_kept() -> None:
    """Those that failed too, as they may have bound names; each with its calls in the order of asking."""
    failed = SubcallFailed(
        call="s2", code="model_unavailable", error="ModelTimeout", message="at 10.0.0.1", seconds=1, told="unavailable"
    )
    journal = journal_of(
        *cell(1), *cell(2, "error", asked("s1", 2, "a"), asked("s2", 2, "b"), failed, replied("s1", "A"))
    )
    assert [(kept.cell, kept.code, kept.status, kept.seconds) for kept in journal.cells()] == [
        (1, "code 1", "ok", 1.5),
        (2, "code 2", "error", 1.5),
    ]
    first, second = journal.cells()[1].calls
    assert (first.key, first.text) == (CallKey("llm", None, digest("a")), "A")
    assert (second.text, second.code, second.told) == (None, "model_unavailable", "unavailable")


def test_the_cell_that_costs_the_kernel_is_not_kept() -> None:
    """What is lost can be asked for until the next cell begins; then nothing of it is left."""
    journal = journal_of(*cell(1), *cell(2), *cell(3, "timed_out", LOST))
    assert numbers(journal) == [1, 2]
    for event in cell(4):
        journal.emit(event)
    assert numbers(journal) == [4]


@pytest.mark.parametrize("failed", [None, "cell 2 took too long"])
def test_what_was_rebuilt_can_be_rebuilt_again(failed: str | None) -> None:
    """After a rebuild the kept cells are those that ended as before, and, if all did, later ones."""
    rebuilt = KernelRebuilt(generation=2, cells=[1], names=["x"], seconds=1, failed=failed)
    journal = journal_of(*cell(1), *cell(2), *cell(3, "kernel_died", LOST), rebuilt, *cell(4))
    assert numbers(journal) == ([1, 4] if failed is None else [1])
    assert journal.cut == failed


def test_an_interrupted_cell_cuts_the_journal() -> None:
    """Nobody can say how far it had come, so cells that build on it are not kept."""
    journal = journal_of(*cell(1), *cell(2, "interrupted"), *cell(3))
    assert numbers(journal) == [1]
    assert "cell 2 was interrupted" in str(journal.cut)


def test_calls_of_another_cell_are_not_taken() -> None:
    """A late answer, or a call whose cell does not run, is no part of the running one."""
    journal = journal_of(*cell(1, "ok", asked("s1", 7, "a"), replied("s9", "A")), replied("s1", "B"))
    assert journal.cells()[0].calls == []


def test_memory_is_bounded() -> None:
    """A journal with more code and answers than it may hold holds none; that is said once, and recording goes on."""
    events = Events()
    sink = JournalingSink(events, Journal(max_bytes=10_000))
    for number in range(1, 100):
        for event in cell(number, "ok", asked(f"s{number}", number, "a"), replied(f"s{number}", "x" * 1000)):
            sink.emit(event)
    assert sink.journal is not None
    assert sink.journal.cells() == []
    assert len(events.of(Notice)) == 1
    assert len(events.of(CellFinished)) == 99


def test_cells_that_run_again_are_not_recorded() -> None:
    """During a rebuild the kernel's own events pass, and those of cells don't."""
    events = Events()
    sink = JournalingSink(events, Journal())
    sink.rebuilding = True
    for event in (*cell(1), CellOutput(cell=1, output={}), asked("s1", 1, "a"), LOST):
        sink.emit(event)
    assert events.all == [LOST]
