"""Cancels from outside, at every stage of a run on the real engine; `nothing_left` watches what stays."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel import RLM, Hooks, Settings
from rlm_kernel.errors import RunCancelled, SessionError
from rlm_kernel.events import (
    AnswerGiven,
    AnyEvent,
    CellFinished,
    CellOutput,
    CellStarted,
    ContextStored,
    KernelReady,
    ModelRequested,
    QuestionFailed,
    RunFinished,
    SandboxStarted,
    SubcallRequested,
)
from tests.docker.test_rlm import cell, recorded, script, settings
from tests.support.provider_server import ProviderServer, Reply
from tests.support.sinks import Events

__all__ = ["settings"]


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ProviderServer]:
    """A provider that never replies to what ends in "stall", and to anything else with a cell that asks it so."""

    def answer(body: dict[str, Any]) -> Reply:
        asked = body["messages"][-1]["content"]
        return Reply(fate="stalled") if "stall" in asked else Reply(text=cell("FINAL(llm_query('stall'))"))

    async with ProviderServer(answer).run() as server:
        monkeypatch.setenv("VLLM_BASE_URL", f"{server.url}/v1")
        yield server


@pytest.mark.parametrize(
    ("kind", "question", "at_provider"),
    [
        (ContextStored, "Why?", False),
        (KernelReady, "Why?", False),
        (ModelRequested, "Why stall?", True),
        (CellStarted, "Why?", False),
        (SubcallRequested, "Why?", True),
    ],
)
async def test_a_cancel_at_any_stage(
    settings: Settings, server: ProviderServer, kind: type[AnyEvent], question: str, at_provider: bool
) -> None:
    """While container or kernel start, in a model call, in a cell, in a sub-call: the run ends as cancelled."""
    events, reached = Events(), asyncio.Event()
    events.on(kind, reached.set)
    async with RLM("vllm:x", settings=settings, on_event=events) as rlm:
        run = rlm.start(question, "banana")
        await reached.wait()
        if at_provider:
            await server.reached(1)
            server.disconnected.clear()
        threading.Thread(target=run.cancel).start()
        with pytest.raises(RunCancelled):
            await run.result()
        if at_provider:
            await server.disconnected.wait()
    last = recorded(settings.state_dir)[-1]
    assert isinstance(last, RunFinished)
    assert last.status == "cancelled"


@pytest.mark.parametrize("kind", [AnswerGiven, RunFinished])
async def test_a_cancel_at_the_end(settings: Settings, tmp_path: Path, kind: type[AnyEvent]) -> None:
    """As the answer is there and the container goes, the recording ends in either way, and nothing stays."""
    events = Events()
    async with RLM(script(tmp_path, cell("FINAL(context)")), settings=settings, on_event=events) as rlm:
        run = rlm.start("Why?", "banana")
        events.on(kind, run.cancel)
        await asyncio.wait({asyncio.ensure_future(run.result())})
    ends = [event for event in recorded(settings.state_dir) if isinstance(event, RunFinished)]
    assert len(ends) == 1
    assert ends[0].status in ("answered", "cancelled")


async def test_a_run_ends_with_its_block(settings: Settings, tmp_path: Path) -> None:
    """Leaving `async with` on a handle, or the `RLM` itself, cancels what still runs."""
    for by_handle in (True, False):
        events, reached = Events(), asyncio.Event()
        events.on(CellStarted, reached.set)
        async with RLM(script(tmp_path, cell("while True: pass")), settings=settings, on_event=events) as rlm:
            run = rlm.start("Why?", "banana")
            await reached.wait()
            if by_handle:
                async with run:
                    assert not run.done
                assert run.done
        assert events.of(RunFinished)[0].status == "cancelled"
        with pytest.raises(RunCancelled):
            await run.result()


async def test_waiting_is_not_running(settings: Settings, tmp_path: Path) -> None:
    """A cancel of who waits for the result leaves the run as it is."""
    turns = (cell("import time; time.sleep(0.5)\nFINAL(context)"),)
    async with RLM(script(tmp_path, *turns), settings=settings) as rlm:
        run = rlm.start("Why?", "banana")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await run.result()
        assert (await run.result()).answer == "banana"


async def test_a_question_is_cancelled_and_the_next_one_asked(settings: Settings, tmp_path: Path) -> None:
    """A cancel stops the running cell; its variables are there for the next question, which knows of the stop."""
    turns = cell("x = 7\nprint(x, flush=True)\nwhile True: pass"), cell("FINAL(x)")
    events, reached = Events(), asyncio.Event()
    events.on(CellOutput, reached.set)
    async with (
        RLM(script(tmp_path, *turns), settings=settings, on_event=events) as rlm,
        rlm.session("banana") as session,
    ):
        ask = asyncio.ensure_future(session.ask("One?"))
        await reached.wait()
        ask.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ask
        assert (await session.ask("Two?")).answer == "7"
    assert events.of(CellFinished)[0].status == "interrupted"
    assert [failed.error for failed in events.of(QuestionFailed)] == ["CancelledError"]
    assert "was stopped" in events.of(ModelRequested)[1].messages[-1].content
    assert events.of(RunFinished)[0].status == "answered"


async def test_a_session_whose_block_is_cancelled(settings: Settings, tmp_path: Path) -> None:
    """The session ends as cancelled, also while it opens; a question on the way is told that it was closed."""
    for kind in (ContextStored, CellStarted):
        events, reached = Events(), asyncio.Event()
        events.on(kind, reached.set)
        rlm = RLM(script(tmp_path, cell("while True: pass")), settings=settings, on_event=events)

        async def talk(rlm: RLM = rlm) -> None:
            async with rlm.session("banana") as session:
                await session.ask("Why?")

        talking = asyncio.ensure_future(talk())
        await reached.wait()
        talking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await talking
        await rlm.aclose()
        assert events.of(RunFinished)[0].status == "cancelled"


@pytest.mark.parametrize("by_rlm", [False, True])
async def test_a_session_that_is_closed_while_it_answers(settings: Settings, tmp_path: Path, by_rlm: bool) -> None:
    """The question fails with a typed error that says so, also where the `RLM` is closed."""
    events, reached = Events(), asyncio.Event()
    events.on(CellStarted, reached.set)
    async with RLM(script(tmp_path, cell("while True: pass")), settings=settings, on_event=events) as rlm:
        async with rlm.session("banana") as session:
            ask = asyncio.ensure_future(session.ask("Why?"))
            await reached.wait()
            if by_rlm:
                await rlm.aclose()
        with pytest.raises(SessionError, match="closed"):
            await ask


def test_a_run_in_a_thread_is_watched_and_cancelled(settings: Settings, tmp_path: Path) -> None:
    """Code that is not async sees every event, cancels from where it is, and gets the result otherwise."""
    with RLM(script(tmp_path, cell("while True: pass")), settings=settings) as rlm:
        with rlm.start_in_thread("Why?", "banana") as run:
            seen: list[AnyEvent] = []
            for event in run:
                seen.append(event)
                if isinstance(event, CellStarted):
                    run.cancel()
            with pytest.raises(RunCancelled):
                run.result()
        assert seen == recorded(settings.state_dir)
    rlm = RLM(script(tmp_path, cell("FINAL(context)")), settings=settings)
    with rlm, rlm.start_in_thread("Why?", "banana") as run:
        assert run.result().answer == "banana"


async def test_hooks_of_a_run(settings: Settings, tmp_path: Path) -> None:
    """Each is called for what its name says, before the run has ended."""
    called: list[str] = []

    async def cell_done(event: CellFinished) -> None:
        called.append("cell_done")

    hooks = Hooks(
        variable_loaded=lambda event: called.append("variable_loaded"),
        chunking_done=lambda event: called.append("chunking_done"),
        invoke_start=lambda event: called.append("invoke_start"),
        invoke_complete=lambda event: called.append("invoke_complete"),
        cell_done=cell_done,
        answer=lambda event: called.append(f"answer {event.answer}"),
    )
    code = cell("pieces = chunk(context)\nFINAL(llm_query(str(len(pieces))))")
    async with RLM(script(tmp_path, code), script(tmp_path, "one"), settings=settings, hooks=hooks) as rlm:
        await rlm.acompletion("Why?", "banana")
    called.remove("chunking_done")  # it comes on another way than sub-calls do
    assert called == ["variable_loaded", "invoke_start", "invoke_complete", "cell_done", "answer one"]


async def test_what_remains_of_a_budget(settings: Settings, tmp_path: Path) -> None:
    """A handle tells nothing before its run is open, then what is left; a session's questions share one budget."""
    limited = replace(settings, max_subcalls=3)
    turns = cell("FINAL(llm_query('a'))"), cell("FINAL(llm_query_batched(['b', 'c'])[0])")
    sub = script(tmp_path, "one", "two", "three")
    async with RLM(script(tmp_path, *turns), sub, settings=limited) as rlm:
        run = rlm.start("Why?", "banana")
        assert run.remaining() is None
        await run.result()
        left = run.remaining()
        assert left is not None
        assert (left.subcalls, left.cost_usd) == (2, None)
    async with RLM(script(tmp_path, *turns), sub, settings=limited) as rlm, rlm.session("banana") as session:
        left_after = []
        for question in ("One?", "Two?"):
            await session.ask(question)
            left_after.append(session.remaining().subcalls)
    assert left_after == [2, 0]


async def test_a_cancel_while_waiting_for_a_seat(settings: Settings, tmp_path: Path) -> None:
    """A run that waits because no more may run at once is cancelled where it stands, without a container."""
    events, reached = Events(), asyncio.Event()
    events.on(CellStarted, reached.set)
    only_one = replace(settings, max_sessions=1)
    async with RLM(script(tmp_path, cell("while True: pass")), settings=only_one, on_event=events) as rlm:
        first = rlm.start("Why?", "banana")
        await reached.wait()
        second = rlm.start("Why?", "banana")
        async for event in second:
            if isinstance(event, ContextStored):
                second.cancel()
        with pytest.raises(RunCancelled):
            await second.result()
        assert not first.done
    assert len(events.of(SandboxStarted)) == 1
    assert [end.status for end in events.of(RunFinished)] == ["cancelled", "cancelled"]
