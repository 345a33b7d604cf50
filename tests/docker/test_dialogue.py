"""Sessions of many questions on the real engine."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import BaseModel

from rlm_kernel import RLM, Settings
from rlm_kernel.errors import AnswerInvalid, NoAnswer, RunCancelled, SessionError
from rlm_kernel.events import (
    AnswerGiven,
    AnswerRejected,
    CellStarted,
    KernelReady,
    ModelRequested,
    QuestionAsked,
    QuestionFailed,
    RunFinished,
    RunStarted,
)
from tests.docker.test_rlm import cell, recorded, script, settings
from tests.support.sinks import Events

__all__ = ["settings"]


async def test_a_session_keeps_variables_and_conversation(settings: Settings, tmp_path: Path) -> None:
    """A later question finds the earlier ones' variables and is asked in the same conversation; one recording tells."""
    turns = cell("n = context.count('a')\nFINAL(n)"), cell("n += 1"), cell("FINAL(n)")
    async with RLM(script(tmp_path, *turns), settings=settings) as rlm, rlm.session("banana") as session:
        first, second = await session.ask("How many?"), await session.ask("And one more?")
    assert (first.answer, first.turns, second.answer, second.turns) == ("3", 1, "4", 2)
    assert (first.run, first.recording) == (second.run, second.recording)
    assert [used.calls for result in (first, second) for used in result.usage.values()] == [1, 2]
    events = Events(recorded(settings.state_dir))
    assert [len(events.of(kind)) for kind in (RunStarted, KernelReady, RunFinished)] == [1, 1, 1]
    assert [(asked.ask, asked.question) for asked in events.of(QuestionAsked)] == [
        (1, "How many?"),
        (2, "And one more?"),
    ]
    assert [(given.ask, given.answer) for given in events.of(AnswerGiven)] == [(1, "3"), (2, "4")]
    last = events.of(ModelRequested)[-1]
    assert "And one more?" in events.of(ModelRequested)[1].messages[-1].content
    assert last.history + len(last.messages) == 6
    (finished,) = events.of(RunFinished)
    assert (finished.status, finished.answer, finished.turns) == ("answered", "4", 3)


async def test_a_session_goes_on_after_an_error(settings: Settings, tmp_path: Path) -> None:
    """A question without an answer is recorded as failed, and the next one finds the variables."""
    turns = cell("x = 7"), cell("1/0"), cell("FINAL(x)")
    limited = replace(settings, max_turns=1)
    async with RLM(script(tmp_path, *turns), settings=limited) as rlm, rlm.session("banana") as session:
        with pytest.raises(NoAnswer):
            await session.ask("One?")
        assert (await session.ask("Two?")).answer == "7"
    events = Events(recorded(settings.state_dir))
    assert [(failed.ask, failed.error) for failed in events.of(QuestionFailed)] == [(1, "NoAnswer")]
    assert events.of(RunFinished)[0].status == "answered"


async def test_a_session_refuses_what_it_can_not_do(settings: Settings, tmp_path: Path) -> None:
    """A second question at the same time, and one after the end, are refused with a typed error."""
    started, events = asyncio.Event(), Events()
    events.on(CellStarted, started.set)
    turns = cell("import time; time.sleep(1)\nFINAL(1)"), cell("FINAL(2)")
    async with RLM(script(tmp_path, *turns), settings=settings, on_event=events) as rlm:
        async with rlm.session("banana") as session:
            async with asyncio.TaskGroup() as group:
                first = group.create_task(session.ask("One?"))
                await started.wait()
                with pytest.raises(SessionError, match="busy"):
                    await session.ask("Two?")
            assert first.result().answer == "1"
        with pytest.raises(SessionError, match="ended"):
            await session.ask("Three?")


@pytest.mark.parametrize("shared", [True, False])
async def test_a_session_for_code_that_is_not_async(settings: Settings, tmp_path: Path, shared: bool) -> None:
    """`with rlm.session(...)` works inside a running loop, with the thread of `with RLM(...)` and with its own."""
    rlm = RLM(script(tmp_path, cell("x = 1\nFINAL(x)"), cell("FINAL(x + 1)")), settings=settings)

    def talk() -> list[str]:
        with rlm.session("banana") as session:
            return [session.ask("One?").answer, session.ask("Two?").answer]

    if shared:
        with rlm:
            assert talk() == ["1", "2"]
    else:
        assert talk() == ["1", "2"]
        for thread in threading.enumerate():
            if thread.name == "rlm":  # its sandbox ends behind it
                await asyncio.to_thread(thread.join)
    assert isinstance(recorded(settings.state_dir)[-1], RunFinished)


async def test_a_handle_is_followed_and_cancelled(settings: Settings, tmp_path: Path) -> None:
    """Every reader gets every recorded event from the first on, and `cancel` ends the run as cancelled."""
    async with RLM(script(tmp_path, cell("while True: pass")), settings=settings) as rlm:
        run = rlm.start("How many?", "banana")
        early = []
        async for event in run:
            early.append(event)
            if isinstance(event, CellStarted):
                run.cancel()
        with pytest.raises(RunCancelled):
            await run.result()
        late = [event async for event in run]
    assert early == late == recorded(settings.state_dir)
    assert isinstance(early[-1], RunFinished)
    assert early[-1].status == "cancelled"


class Count(BaseModel):
    """A type for answers."""

    letter: str
    times: int


async def test_a_structured_answer(settings: Settings, tmp_path: Path) -> None:
    """A dict from a cell becomes an object of the type, once what was wrong is mended, in a session too."""
    turns = (
        cell("FINAL({'letter': 'a'})"),
        cell("FINAL({'letter': 'a', 'times': context.count('a')})"),
        cell("FINAL([1, 2])"),
    )
    async with RLM(script(tmp_path, *turns), settings=settings) as rlm, rlm.session("banana") as session:
        result = await session.ask("How many?", answer_type=Count)
        assert (result.value, result.answer) == (Count(letter="a", times=3), '{"letter": "a", "times": 3}')
        schema = {"type": "array", "items": {"type": "integer"}}
        assert (await session.ask("Which?", answer_type=schema)).value == [1, 2]
    events = Events(recorded(settings.state_dir))
    assert [rejected.problem for rejected in events.of(AnswerRejected)] == ["times: Field required"]
    assert [asked.schema is not None for asked in events.of(QuestionAsked)] == [True, True]


def test_an_answer_that_does_not_fit(settings: Settings, tmp_path: Path) -> None:
    """It ends the run as failed, with an error of its own, and the recording is there."""
    rlm = RLM(script(tmp_path, "FINAL(none)", "FINAL(none)"), settings=settings)
    with rlm, pytest.raises(AnswerInvalid, match="not JSON"):
        rlm.completion("How many?", "banana", answer_type=Count)
    last = recorded(settings.state_dir)[-1]
    assert isinstance(last, RunFinished)
    assert (last.status, last.error) == ("failed", "AnswerInvalid")
