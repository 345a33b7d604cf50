"""Hooks over a real recording."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from rlm_kernel.assembly import hooks as module
from rlm_kernel.assembly.hooks import Hooks, called, heard
from rlm_kernel.events import AnswerGiven, CellFinished, Notice, SubcallRequested
from rlm_kernel.models.model import TextDelta
from rlm_kernel.recording import EVENTS_FILE, Following, RecordingLog, Tee, new_run_id, read_events

CELL = CellFinished(cell=1, status="ok", seconds=0.1)
CALL = SubcallRequested(call="s1", cell=1, model="m", prompt="p")
ANSWER = AnswerGiven(answer="42", source="FINAL")


class Recorded:
    """A recording with hooks behind it."""

    def __init__(self, state: Path) -> None:
        self.log = RecordingLog(state, new_run_id())
        self.following = Following()
        self.following.begin(self.log.path)
        self.sink = Tee(self.log, self.following)

    def notices(self) -> list[str]:
        """Return what was told in the recording."""
        self.log.close()
        events = [record.event for record in read_events(self.log.folder / EVENTS_FILE)]
        return [event.message for event in events if isinstance(event, Notice)]


@pytest.fixture
async def recorded(tmp_path: Path) -> Recorded:
    """A recording in a folder of the test's own."""
    return Recorded(tmp_path)


async def test_hooks_are_called_in_order(recorded: Recorded) -> None:
    """Sync and async ones, each after the one before has ended, for the root session only, and all before the end."""
    seen: list[object] = []

    async def slow(event: CellFinished) -> None:
        await asyncio.sleep(0.01)
        seen.append(event)

    async with called(Hooks(cell_done=slow, answer=seen.append), recorded.following, recorded.sink):
        for event in (CELL, CALL, ANSWER, CELL):
            recorded.sink.emit(event)
        recorded.sink.emit(ANSWER, "s1")
    assert seen == [CELL, ANSWER, CELL]
    assert recorded.notices() == []


async def test_a_hook_that_raises_ends_nothing(recorded: Recorded, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged each time and recorded once, and the others are called."""
    seen: list[object] = []

    def fail(event: CellFinished) -> None:
        raise LookupError("no such row")

    async with called(Hooks(cell_done=fail, answer=seen.append), recorded.following, recorded.sink):
        for event in (CELL, CELL, ANSWER):
            recorded.sink.emit(event)
    assert seen == [ANSWER]
    assert recorded.notices() == ["the hook cell_done raised LookupError: no such row"]
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 2


async def test_a_hook_that_hangs_is_left(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end waits for hooks for a bounded time, and says which were not waited for."""
    monkeypatch.setattr(module, "END_SECONDS", 0.05)
    ended = asyncio.Event()

    async def hang(event: CellFinished) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with called(Hooks(cell_done=hang), recorded.following, recorded.sink):
        recorded.sink.emit(CELL)
    assert ended.is_set()
    assert recorded.notices() == ["hooks were still being called 0.05 s after the end, and were left"]


async def test_a_cancelled_run_waits_for_no_hook(recorded: Recorded) -> None:
    """A cancel ends the hook that is being called."""
    begun = asyncio.Event()

    async def hang(event: CellFinished) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def run() -> None:
        async with called(Hooks(cell_done=hang), recorded.following, recorded.sink):
            recorded.sink.emit(CELL)
            await asyncio.Event().wait()

    task = asyncio.ensure_future(run())
    await begun.wait()
    task.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await task
    recorded.log.close()


def test_text_goes_to_the_hook_and_the_listener() -> None:
    """Both hear each piece, whether the hook raises or not; without either nobody listens."""
    pieces: list[str] = []

    def fail(piece: TextDelta) -> None:
        pieces.append("hook")
        raise ValueError("no")

    hear = heard(Hooks(text=fail), lambda piece: pieces.append(piece.text))
    assert hear is not None
    hear(TextDelta(text="a", kind="text"))
    assert pieces == ["hook", "a"]
    assert heard(Hooks(), None) is None
