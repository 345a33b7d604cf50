"""The Python API on the real engine: whole runs from a question to an answer and a recording."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import docker
import docker.errors
import pytest

import rlm_kernel
from rlm_kernel import RLM, Settings
from rlm_kernel.errors import EmptyQuestion, ImageMissing, NoAnswer, ScriptExhausted
from rlm_kernel.events import (
    AnswerGiven,
    AnyEvent,
    CellStarted,
    ContextStored,
    KernelReady,
    ModelRequested,
    RunFinished,
    RunStarted,
    SandboxStarted,
    SubcallReplied,
)
from rlm_kernel.recording import EVENTS_FILE, read_events
from rlm_kernel.sandbox.container import remove_container
from tests.support.engine_proxy import weakened_engine
from tests.support.sinks import Events


def script(tmp_path: Path, *turns: str) -> str:
    """Write a script and return the model's name for it."""
    file = tmp_path / f"script-{len(list(tmp_path.iterdir()))}.md"
    file.write_text("".join(f"--- turn ---\n{turn}\n" for turn in turns))
    return f"scripted:{file}"


def cell(code: str) -> str:
    """Return a reply with one cell."""
    return f"```repl\n{code}\n```"


@pytest.fixture
def settings(image: str, tmp_path: Path) -> Settings:
    """Settings with a state folder of the test's own."""
    assert image
    return Settings(state_dir=tmp_path / "state", memory=512 * 2**20, cell_timeout=30)


def recorded(state_dir: Path) -> list[AnyEvent]:
    """Return the events of the only run."""
    (folder,) = (state_dir / "runs").iterdir()
    return [record.event for record in read_events(folder / EVENTS_FILE)]


async def test_a_run_from_question_to_answer(settings: Settings, tmp_path: Path) -> None:
    """A run answers, says what it used, and leaves a recording of everything that its listener was told."""
    root = script(tmp_path, cell("n = context.count('a')\nr = llm_query('how many?')"), cell("FINAL(f'{n} {r}')"))
    sub, events = script(tmp_path, "three"), Events()
    async with RLM(root, sub, settings=settings, on_event=events) as rlm:
        result = await rlm.acompletion("How many?", "banana")
    assert (result.answer, result.status, result.turns) == ("3 three", "answered", 2)
    assert result.usage[sub].calls == 1
    assert result.cost_usd == 0
    assert events.all == recorded(settings.state_dir)
    assert result.recording == settings.runs_dir / result.run
    order = [RunStarted, ContextStored, SandboxStarted, KernelReady, ModelRequested, CellStarted, SubcallReplied]
    first: dict[type, int] = {}
    for index, event in enumerate(events.all):
        first.setdefault(type(event), index)
    assert sorted(order, key=lambda kind: first[kind]) == order
    assert [type(event) for event in events.all[-2:]] == [AnswerGiven, RunFinished]


async def test_the_model_is_told_what_was_lost(settings: Settings, tmp_path: Path) -> None:
    """After a cell took its kernel down, or its container, the next request says in one line what is gone or back."""
    die = cell("import os; os._exit(1)")
    turns = (cell("mine = 1"), die, cell("FINAL(str('mine' in globals()) + context)"))
    for rebuild, words in (
        (False, "These variables are gone: mine. `context`"),
        (True, "these variables are back: mine. `context`"),
    ):
        events = Events()
        chosen = replace(settings, rebuild=rebuild)
        async with RLM(script(tmp_path, *turns), settings=chosen, on_event=events) as rlm:
            result = await rlm.acompletion("How many?", "banana")
        assert result.answer == f"{rebuild}banana"
        said = events.of(ModelRequested)[2].messages[-1].content
        assert "[The kernel died during this cell" in said
        assert words in said
        assert len(said) < 600


def test_completion_without_a_loop(settings: Settings, tmp_path: Path) -> None:
    """`completion` answers in ordinary code."""
    with RLM(script(tmp_path, cell("FINAL(context)")), settings=settings) as rlm:
        assert rlm.completion("What?", "text").answer == "text"


async def test_completion_inside_a_loop(settings: Settings, tmp_path: Path) -> None:
    """`completion` answers inside a running event loop too, as in a notebook."""
    with RLM(script(tmp_path, cell("FINAL(context)")), settings=settings) as rlm:
        assert rlm.completion("What?", "text").answer == "text"


async def test_runs_at_the_same_time(settings: Settings, tmp_path: Path) -> None:
    """One object serves several runs at once."""
    async with RLM(script(tmp_path, cell("FINAL(context)")), settings=settings) as rlm:
        results = await asyncio.gather(*(rlm.acompletion("What?", f"text {number}") for number in range(3)))
    assert [result.answer for result in results] == ["text 0", "text 1", "text 2"]


async def test_a_partial_answer(settings: Settings, tmp_path: Path) -> None:
    """When the turns run out the best answer so far is given, and marked as partial."""
    limited = replace(settings, max_turns=1)
    async with RLM(script(tmp_path, cell("print(1)"), "Perhaps three."), settings=limited) as rlm:
        result = await rlm.acompletion("How many?", "banana")
    assert (result.answer, result.status) == ("Perhaps three.", "partial")


@pytest.mark.parametrize(
    ("turns", "error"),
    [(["I will think."] * 3 + [cell("1/0")], NoAnswer), ([cell("print(1)")], ScriptExhausted)],
)
async def test_a_run_without_an_answer(
    settings: Settings, tmp_path: Path, turns: list[str], error: type[Exception]
) -> None:
    """A run that fails says why, in its recording too."""
    rlm = RLM(script(tmp_path, *turns), settings=settings)
    with pytest.raises(error):
        await rlm.acompletion("How many?", "banana")
    last = recorded(settings.state_dir)[-1]
    assert isinstance(last, RunFinished)
    assert (last.status, last.error) == ("failed", error.__name__)


async def test_a_cancelled_run_says_so(settings: Settings, tmp_path: Path) -> None:
    """A cancel removes the container and ends the recording as cancelled."""
    events = Events()
    rlm = RLM(script(tmp_path, cell("while True: pass")), settings=settings, on_event=events)
    run = asyncio.ensure_future(rlm.acompletion("How many?", "banana"))
    async with asyncio.timeout(20):
        while not events.of(CellStarted):
            await asyncio.sleep(0.02)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    last = recorded(settings.state_dir)[-1]
    assert isinstance(last, RunFinished)
    assert last.status == "cancelled"


@pytest.mark.parametrize("inside_a_loop", [False, True])
def test_ctrl_c_ends_the_run_first(settings: Settings, tmp_path: Path, inside_a_loop: bool) -> None:
    """Ctrl-C in `completion` is raised on after the container is gone and the recording has ended."""

    class Interrupt(Events):
        def emit(self, event: AnyEvent, node: str = "") -> None:
            super().emit(event, node)
            if isinstance(event, CellStarted):
                threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

    rlm = RLM(script(tmp_path, cell("while True: pass")), settings=settings, on_event=Interrupt())

    async def inside() -> None:
        rlm.completion("How many?", "banana")

    def work() -> None:
        if inside_a_loop:
            asyncio.run(inside())
        else:
            rlm.completion("How many?", "banana")

    with pytest.raises(KeyboardInterrupt):
        work()
    last = recorded(settings.state_dir)[-1]
    assert isinstance(last, RunFinished)
    assert last.status == "cancelled"


async def test_nothing_is_recorded_of_a_question_that_can_not_be(settings: Settings, tmp_path: Path) -> None:
    """An empty question is refused before anything is made."""
    with pytest.raises(EmptyQuestion):
        await RLM(script(tmp_path, "x"), settings=settings).acompletion(" \n", "banana")
    assert not settings.runs_dir.exists()


async def test_an_answer_survives_a_failing_removal(
    settings: Settings, tmp_path: Path, engine: docker.APIClient, caplog: pytest.LogCaptureFixture
) -> None:
    """An answer that was paid for is given although the engine then fails to remove the container, which is logged."""
    events = Events()
    async with weakened_engine(tmp_path / "engine", {"AutoRemove": True}, refuses="DELETE") as address:
        failing = replace(settings, docker_host=address)
        async with RLM(script(tmp_path, cell("FINAL(context)")), settings=failing, on_event=events) as rlm:
            result = await rlm.acompletion("What?", "text")
    assert (result.answer, result.status) == ("text", "answered")
    assert "not cleaned up" in caplog.text
    remove_container(engine, events.of(SandboxStarted)[0].container)


@pytest.mark.parametrize("is_async", [True, False])
async def test_the_answer_does_not_wait_for_the_end(settings: Settings, tmp_path: Path, is_async: bool) -> None:
    """An answer comes before its container is gone, however slow the engine is at that; nothing is left in the end."""
    async with weakened_engine(tmp_path / "engine", {"AutoRemove": True}, delays="DELETE", seconds=2) as address:
        slow = replace(settings, docker_host=address)
        rlm = RLM(script(tmp_path, cell("FINAL(context)")), settings=slow)
        if is_async:
            assert (await rlm.acompletion("What?", "text")).answer == "text"
        else:
            result = await asyncio.to_thread(rlm.completion, "What?", "text")
            assert result.answer == "text"
        ends = time.monotonic()
        await rlm.aclose()
        for thread in threading.enumerate():
            if thread.name == "rlm":
                await asyncio.to_thread(thread.join)
        assert time.monotonic() - ends > 1


async def test_runs_from_a_pool(settings: Settings, tmp_path: Path) -> None:
    """Within `async with` runs get containers that were started ahead; each is used once."""
    events = Events()
    pooled = replace(settings, pool_size=1)
    async with RLM(script(tmp_path, cell("FINAL(context)")), settings=pooled, on_event=events) as rlm:
        for text in ("one", "two"):
            assert (await rlm.acompletion("What?", text)).answer == text
    assert len({event.container for event in events.of(SandboxStarted)}) == 2


def test_a_pool_for_code_that_is_not_async(settings: Settings, tmp_path: Path) -> None:
    """`with` does for `completion` what `async with` does for `acompletion`."""
    pooled = replace(settings, pool_size=1)
    with RLM(script(tmp_path, cell("FINAL(context)")), settings=pooled) as rlm:
        assert [rlm.completion("What?", text).answer for text in ("one", "two")] == ["one", "two"]


def test_public_names_load_on_demand() -> None:
    """The package's public names are there, and a name that is not is an AttributeError."""
    assert all(hasattr(rlm_kernel, name) for name in rlm_kernel.__all__)
    assert not hasattr(rlm_kernel, "Manager")
    assert issubclass(ImageMissing, rlm_kernel.RlmKernelError)
