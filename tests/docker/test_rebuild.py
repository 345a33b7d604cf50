"""Variables made anew after a kernel was lost, on the real engine."""

from __future__ import annotations

import asyncio

import docker
import pytest

from rlm_kernel.events import (
    CellFinished,
    CellOutput,
    CellStarted,
    KernelLost,
    KernelRebuilt,
    SandboxStarted,
    SubcallReplied,
    SubcallRequested,
)
from rlm_kernel.kernel import CellResult
from rlm_kernel.sandbox.spec import Carrier
from rlm_kernel.session import Session, rebuild
from tests.docker.conftest import OpenSession
from tests.support.fakes import FakeModel
from tests.support.sinks import Events

DIE = "import os; os._exit(1)"
ONLY_ONCE = "import os\nif os.path.exists('/tmp/ran'): {}\nopen('/tmp/ran', 'w').close()\nb = 2"


async def run(session: Session, *cells: str) -> CellResult:
    """Run cells and return the last one's result."""
    for code in cells:
        result = await session.run_cell(code, turn=1)
    return result


def text(result: CellResult) -> str:
    """Return what a cell printed."""
    assert result.status == "ok", result
    return "".join(str(output["text"]) for output in result.outputs if output["output_type"] == "stream")


async def test_all_is_made_anew(open_test_session: OpenSession, carrier: Carrier, events: Events) -> None:
    """Values, functions, imports and answers of sub-calls are back, those of equal prompts each in its place; no model
    is asked again, and nothing of the second runs is recorded."""
    model = FakeModel(["first", "second", "third", RuntimeError("no"), "after"])
    async with open_test_session(carrier=carrier, models={None: model}, rebuild=True) as session:
        await run(
            session,
            "import math\ndef double(x): return 2 * x",
            "a = llm_query('same'); b = await allm_query('same'); print(a)",
            "early = 1; 1/0",
            "c = llm_query_batched(['x'])\ntry: llm_query('fails')\nexcept LLMQueryError as error: told = str(error)",
            "answer['content'] = 'x'; FINAL('never')",
        )
        before = await run(session, "state = (a, b, c, early, told, double(math.floor(2.5))); print(state)")
        recorded = len(events.of(CellStarted)), len(events.of(SubcallRequested))
        result = await run(session, DIE)
        assert (result.status, result.lost, result.not_rebuilt) == ("kernel_died", (), None)
        assert {"a", "b", "c", "early", "told", "double", "state"} <= set(result.rebuilt)
        assert result.final is None
        assert text(await run(session, "print(state)")) == text(before)
        assert "'first', 'second', ['third'], 1, " in text(before)
        assert text(await run(session, "print(llm_query('new'))")) == "after\n"
    assert len(model.requests) == 5
    assert (recorded[0] + 3, recorded[1] + 1) == (len(events.of(CellStarted)), len(events.of(SubcallRequested)))
    shown = "".join(str(event.output["text"]) for event in events.of(CellOutput) if "text" in event.output)
    assert shown == f"first\n{2 * text(before)}after\n"
    assert len(events.of(SubcallReplied)) == 4
    (rebuilt,) = events.of(KernelRebuilt)
    assert (rebuilt.generation, rebuilt.cells, rebuilt.failed) == (2, [1, 2, 3, 4, 5, 6], None)


async def test_it_is_made_anew_again_and_in_a_new_container(
    open_test_session: OpenSession, engine: docker.APIClient, events: Events
) -> None:
    """A second loss is met like the first one, the container's too, with the cells that came between."""
    async with open_test_session(rebuild=True) as session:
        await run(session, "a = 1", DIE, "b = a + 1")
        engine.kill(events.of(SandboxStarted)[0].container)
        result = await run(session, "c = 3")
        assert (result.ename, result.lost, result.rebuilt) == ("SandboxLost", (), ("a", "b"))
        assert text(await run(session, "print(a, b)")) == "1 2\n"
    assert [event.cells for event in events.of(KernelRebuilt)] == [[1], [1, 3]]
    assert len(events.of(SandboxStarted)) == 2


async def test_without_the_setting_nothing_runs_again(open_test_session: OpenSession, events: Events) -> None:
    """It is off unless it is asked for."""
    async with open_test_session() as session:
        result = await run(session, "a = 1", DIE)
        assert (result.lost, result.rebuilt) == (("a",), ())
    assert events.of(KernelRebuilt) == []


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("b = llm_query(open('/proc/sys/kernel/random/uuid').read())", "asked a sub-model what it had not"),
        (ONLY_ONCE.format("__import__('time').sleep(60)"), "took too long"),
        (ONLY_ONCE.format("1/0"), "ended otherwise"),
    ],
)
async def test_a_cell_that_ends_otherwise(
    open_test_session: OpenSession, code: str, why: str, monkeypatch: pytest.MonkeyPatch, carrier: Carrier
) -> None:
    """The rebuild stops there, no model is asked, and what was back by then stays; the model is told which."""
    monkeypatch.setattr(rebuild, "MARGIN", 1.0)
    model = FakeModel(["answer"])
    async with open_test_session(carrier=carrier, models={None: model}, rebuild=True) as session:
        result = await run(session, "a = 1", code, "c = 3", DIE)
        assert (set(result.lost or ()), result.rebuilt) == ({"b", "c"}, ("a",))
        assert why in str(result.not_rebuilt)
        assert str(result.not_rebuilt).startswith("cell 2 ")
        assert text(await run(session, "print(a, 'c' in globals())")) == "1 False\n"
    assert len(model.requests) <= 1


async def test_a_cell_that_costs_the_kernel_again(open_test_session: OpenSession, events: Events) -> None:
    """The cells before it are made anew without it."""
    async with open_test_session(rebuild=True) as session:
        result = await run(session, "a = 1", ONLY_ONCE.format("os._exit(1)"), "c = 3", DIE)
        assert (set(result.lost or ()), result.rebuilt) == ({"b", "c"}, ("a",))
        assert "cell 2 cost the kernel again" in str(result.not_rebuilt)
        assert text(await run(session, "print(a, 'b' in globals(), context)")) == "1 False context\n"
    assert len(events.of(KernelLost)) == 2
    assert [event.cells for event in events.of(KernelRebuilt)] == [[1]]


async def test_what_a_failed_cell_did_does_not_stay(open_test_session: OpenSession) -> None:
    """A cell that ends otherwise may have changed what is back; its work is left out, not kept by half."""
    async with open_test_session(rebuild=True) as session:
        result = await run(session, "a = [1]", f"a.append(2)\n{ONLY_ONCE.format('1/0')}", DIE)
        assert (result.lost, result.rebuilt) == (("b",), ("a",))
        assert text(await run(session, "print(a)")) == "[1]\n"


async def test_cells_that_never_end_alike(open_test_session: OpenSession, events: Events) -> None:
    """After the second try there is no third: all names are gone, and the kernel is new."""
    count = "import os\nos.makedirs('/tmp/runs', exist_ok=True)\nruns = len(os.listdir('/tmp/runs'))\n"
    fail_at = count + "open(f'/tmp/runs/{runs}', 'w').close()\nif runs == %s: 1/0\na = 1"
    async with open_test_session(rebuild=True) as session:
        result = await run(session, fail_at % 4, fail_at % 3, DIE)
        assert (set(result.lost or ()), result.rebuilt) == ({"a", "runs"}, ())
        assert text(await run(session, "print('a' in globals())")) == "False\n"
    assert [event.cells for event in events.of(KernelRebuilt)] == [[]]


async def test_an_interrupted_cell_is_the_end_of_what_can_be_made(open_test_session: OpenSession) -> None:
    """What a cell had done when it was interrupted can't be repeated, nor what came after it."""
    async with open_test_session(rebuild=True, cell_timeout=1) as session:
        result = await run(session, "import time; a = []", "while True: a.append(time.sleep(0.01))", "b = len(a)", DIE)
        assert (result.lost, result.rebuilt) == (("b",), ("a",))
        assert "cell 2 was interrupted" in str(result.not_rebuilt)


async def test_a_rebuild_can_be_stopped(open_test_session: OpenSession, events: Events) -> None:
    """A stop gives up the rebuild, and all of it, but not the session."""
    async with open_test_session(rebuild=True) as session:
        await run(session, "a = 1", ONLY_ONCE.format("__import__('time').sleep(60)"))
        dying = asyncio.ensure_future(run(session, DIE))
        async with asyncio.timeout(10):
            while len(events.of(CellFinished)) < 3:
                await asyncio.sleep(0.05)
        await asyncio.sleep(1)
        session.interrupt()
        result = await asyncio.wait_for(dying, 10)
        assert (set(result.lost or ()), result.rebuilt) == ({"a", "b"}, ())
        assert text(await run(session, "print('a' in globals())")) == "False\n"
