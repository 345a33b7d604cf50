"""Recorded runs that run again on the real engine: the same cells, answers and order, without a model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator

from rlm_kernel import RLM, Settings
from rlm_kernel.assembly.asked import Asked
from rlm_kernel.assembly.rerun.rerun import Plan, Rerun
from rlm_kernel.errors import ModelRejected, RecordingEnded
from rlm_kernel.events import (
    BudgetSpent,
    CellStarted,
    HistoryCompacted,
    ModelReplied,
    QuestionFailed,
    RunStarted,
    SubcallReplied,
    WentLive,
)
from rlm_kernel.recording import EVENTS_FILE, Recording, read_events
from rlm_kernel.recording.compare.runs import compare_runs
from tests.docker.test_rlm import settings as base_settings
from tests.support.obedient import NEXT, obey
from tests.support.provider_server import ProviderServer, Reply
from tests.support.replays import run_again, told, without_models

__all__ = ["base_settings"]

CHANCE = """
import random, time
print(random.random(), time.strftime("%Y-%m-%d"), {"a", "b", "c"}, hash("x"))
"""
CALLS = """
import asyncio, threading
got = []
def ask(n):
    got.append(llm_query(f"wait {n * 7 % 12}: n {n}"))
each = [threading.Thread(target=ask, args=(n,)) for n in range(12)]
[thread.start() for thread in each]
[thread.join() for thread in each]
print(got)
async def one(n):
    got.append(await allm_query(f"wait {n * 5 % 9}: m {n % 3}"))
await asyncio.gather(*(one(n) for n in range(9)))
print(got, llm_query_batched([f"b {n}" for n in range(20)]))
"""
FAILURES = """
for ask, *what in ((llm_query, "reject"), (llm_query, "x", "nobody:x"), (rlm_query, "FINAL(1)", "nobody:x")):
    try:
        print(ask(*what))
    except LLMQueryError as error:
        print(type(error).__name__, error)
"""
TOOLS = """
print(add(1, b=2))
try:
    broken()
except ToolError as error:
    print(error)
await aadd(1, 'x')
"""


def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def broken() -> str:
    """Never do anything."""
    raise RuntimeError("host only")


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("it is odd")
    return value


def question(*cells: str) -> str:
    """Return a question whose cells are these."""
    return NEXT.join(each.strip() for each in cells)


def _answer(body: dict[str, Any]) -> Reply:
    """Do as the question says; a sub-model rejects what says so, and is as slow as it is told."""
    reply, said = obey(body), body["messages"][-1]["content"]
    if body["messages"][0]["role"] == "system":
        return reply
    if said == "reject":
        return Reply(status=400, text="no")
    return replace(reply, delay=0.03 * int(said.split()[1][:-1])) if said.startswith("wait ") else reply


@pytest.fixture
async def settings(base_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Settings]:
    """Settings for a model that does what its question says, and sessions one level below."""
    async with ProviderServer(_answer).run() as server:
        monkeypatch.setenv("VLLM_BASE_URL", f"{server.url}/v1")
        yield replace(base_settings, model="vllm:root", sub_model="vllm:sub", memory=256 * 2**20, max_depth=1)


async def ask(settings: Settings, *cells: str) -> Path:
    """Have a run with these cells; return its folder."""
    async with RLM(settings=settings) as rlm:
        return (await rlm.acompletion(question(*cells) or "?", "banana")).recording


async def the_same(settings: Settings, folder: Path) -> Rerun:
    """Replay a run without its models, and check that all of it is as it was."""
    again = await run_again(without_models(settings), folder, "banana")
    assert (again.missing, again.late) == ([], [])
    now, then = told(again.recording, again.nodes), told(folder)
    assert now.keys() == then.keys()
    assert [pair for node in then for pair in zip(now[node], then[node], strict=False) if pair[0] != pair[1]] == []
    assert now == then
    assert_the_same(folder, again.recording)
    return again


def assert_the_same(folder: Path, again: Path) -> None:
    """Compare a replay with its run as `rlm-kernel replay` does."""
    with Recording(folder / EVENTS_FILE if folder.is_dir() else folder) as then, Recording(again / EVENTS_FILE) as now:
        assert not compare_runs(then, now).differs


def events(folder: Path, kind: type[Any]) -> list[Any]:
    """Return what a recording holds of a kind."""
    return [record.event for record in read_events(folder / EVENTS_FILE) if isinstance(record.event, kind)]


def cut(folder: Path, kind: type[Any], which: int = 0) -> Path:
    """Return the recording of a run that was killed after its event of a kind, in the middle of the next line."""
    lines, left = (folder / EVENTS_FILE).read_bytes().splitlines(keepends=True), which
    for number, record in enumerate(read_events(folder / EVENTS_FILE)):
        left -= isinstance(record.event, kind)
        if left < 0:
            path = folder.parent.parent / "cut.jsonl"
            path.write_bytes(b"".join(lines[: number + 1]) + lines[number + 1][:9])
            return path
    raise AssertionError(kind)


async def test_all_that_cells_do_is_done_again(settings: Settings) -> None:
    """Chance, time, calls in parallel, failures, refusals, tools and errors are the same, in all questions.

    No model, no key and no function of a tool is there, and nothing is used.
    """
    async with RLM(settings=settings, tools=[add, broken]) as rlm, rlm.session("banana") as session:
        await session.ask(question(CHANCE, CALLS, FAILURES, "n = 1\n1/0", TOOLS, "FINAL_VAR('got')"))
        result = await session.ask("more")
    again = await the_same(settings, result.recording)
    assert again.result is not None
    assert again.result.usage == {}
    (started,) = events(again.recording, RunStarted)
    assert (started.origin.how, started.origin.run) == ("replay", result.run)
    replies = [*events(again.recording, ModelReplied), *events(again.recording, SubcallReplied)]
    assert {(reply.attempts, reply.cached.how, reply.cached.run) for reply in replies} == {(0, "recorded", result.run)}


async def test_answers_are_judged_as_they_were(settings: Settings) -> None:
    """An answer that was rejected is so again, also where its type says more than its schema."""
    even = Annotated[int, AfterValidator(_even)]
    async with RLM(settings=settings) as rlm:
        result = await rlm.acompletion(question("FINAL('3')", "FINAL('4')", ""), "banana", answer_type=even)
    again = await the_same(settings, result.recording)
    assert again.result is not None
    assert (again.result.answer, again.result.turns) == ("4", 2)


async def test_sessions_below_run_again(settings: Settings) -> None:
    """Sessions below run their own cells again, in containers of their own, and their callers have the same answers."""
    below = "[\"FINAL(llm_query('x') + str(len(context)))\", '1/0']"
    folder = await ask(settings, f"print(rlm_query_batched({below}, return_exceptions=True))", "FINAL(1)")
    again = await the_same(settings, folder)
    assert sorted(again.nodes) == ["", "s1", "s2"]


async def test_a_cell_that_was_made_to_end_ends_again(settings: Settings) -> None:
    """A cell that reached its time limit does so again; one that was cancelled ends the question there again."""
    short = replace(settings, cell_timeout=1.5)
    async with RLM(settings=short) as rlm, rlm.session("banana") as session:
        spins = "x = 1\nwhile True: pass"
        first = await session.ask(question(spins, "print(x)", "FINAL(x)", spins, "FINAL(x + 1)"))
        stopped = asyncio.create_task(session.ask("and then?"))
        async for event in session.events():
            if isinstance(event, CellStarted) and event.cell == 4:
                break
        await asyncio.sleep(0.3)
        stopped.cancel()
        await asyncio.wait([stopped])
        await session.ask("at last?")
    again = await run_again(without_models(short), first.recording, "banana")
    before, now = told(first.recording)[""], told(again.recording)[""]
    assert [line for line in now if line[0] != "QuestionFailed"] == [
        line for line in before if line[0] != "QuestionFailed"
    ]
    assert [failed.error for failed in events(first.recording, QuestionFailed)] == ["CancelledError"]
    assert [failed.error for failed in events(again.recording, QuestionFailed)] == ["RecordingEnded"]
    assert_the_same(first.recording, again.recording)


async def test_a_budget_is_spent_again_where_it_was(settings: Settings) -> None:
    """Calls are refused again, the budget is spent after the same cell, and the model is asked for its best answer."""
    asks = "for n in range(5):\n    try: print(llm_query(str(n)))\n    except LLMQueryError as e: print(e)"
    folder = await ask(replace(settings, max_subcalls=3), asks, "FINAL('best')")
    assert events(folder, BudgetSpent)
    again = await the_same(settings, folder)
    assert again.result is not None
    assert again.result.status == "partial"


async def test_a_conversation_becomes_shorter_where_it_did(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compaction comes at the same turn, as what the provider counted is known; in what is from such a run too."""
    cells = iter([*["print('x' * 4000)"] * 5, "FINAL(1)"])

    def answer(body: dict[str, Any]) -> Reply:
        said = body["messages"][-1]["content"]
        text = "noted" if "Write down" in said else f"```repl\n{next(cells)}\n```"
        return Reply(text=text, input_tokens=sum(len(each["content"]) for each in body["messages"]) // 2)

    long = replace(settings, model_window=9_000)
    async with ProviderServer(answer).run() as server:
        monkeypatch.setenv("VLLM_BASE_URL", f"{server.url}/v1")
        folder = await ask(long, "")
    assert events(folder, HistoryCompacted)
    again = await the_same(long, folder)
    assert events(again.recording, HistoryCompacted)
    third = await the_same(long, again.recording)
    assert events(third.recording, HistoryCompacted)


async def test_a_killed_run_is_replayed_to_its_end_and_resumed_from_there(settings: Settings) -> None:
    """A replay ends in order where the recording does; what resumes it has every recorded answer, and asks the rest."""
    cells = "a = llm_query('one')", "b = llm_query('two')\nc = llm_query('three')", "FINAL(f'{a} {b} {c}')"
    folder = await ask(settings, *cells)
    path = cut(folder, SubcallReplied, 1)
    again = await run_again(without_models(settings), path, "banana")
    assert isinstance(again.error, RecordingEnded)
    assert len(events(again.recording, CellStarted)) == 1
    assert_the_same(path, again.recording)
    resumed = await run_again(settings, path, "banana", Plan(how="resume"))
    assert resumed.result is not None
    assert resumed.result.answer == "echo one echo two echo three"
    assert {name: used.calls for name, used in resumed.result.usage.items()} == {"vllm:root": 1, "vllm:sub": 1}
    (live,) = events(resumed.recording, WentLive)
    assert (live.turn, live.differences) == (2, [])


async def test_a_cell_that_had_not_begun_is_live(settings: Settings) -> None:
    """Where a reply is recorded and its cell is not, the cell is beyond the tape, and what it asks is asked."""
    folder = await ask(settings, "a = llm_query('one')", "b = llm_query('two')", "FINAL(f'{a} {b}')")
    resumed = await run_again(settings, cut(folder, ModelReplied, 1), "banana", Plan(how="resume"))
    assert resumed.result is not None
    assert resumed.result.answer == "echo one echo two"
    order = [type(record.event) for record in read_events(resumed.recording / EVENTS_FILE)]
    begun = [place for place, kind in enumerate(order) if kind is CellStarted]
    assert begun[0] < order.index(WentLive) < begun[1]
    assert {name: used.calls for name, used in resumed.result.usage.items()} == {"vllm:root": 1, "vllm:sub": 1}


async def test_a_session_below_is_resumed_within(settings: Settings) -> None:
    """A session below that had ended gives its answer alone; one that had not goes on where it was."""
    below = question("x = llm_query('deep')", "FINAL(x)")
    folder = await ask(settings, "a = rlm_query('FINAL(7)')", f"b = rlm_query({below!r})", "FINAL(f'{a} {b}')")
    resumed = await run_again(settings, cut(folder, SubcallReplied, 1), "banana", Plan(how="resume"))
    assert resumed.result is not None
    assert resumed.result.answer == "7 echo deep"
    assert resumed.nodes == {"": "", "s2": "s2"}
    assert "vllm:sub" not in resumed.result.usage


async def test_a_fork_goes_its_own_way(settings: Settings) -> None:
    """A fork has the variables of its turn and goes on live from there, or with another question."""
    folder = await ask(settings, "a = llm_query('one')", "a = 'changed'", "FINAL(a)")
    forked = await run_again(settings, folder, "banana", Plan(how="fork", until_turn=1))
    assert forked.result is not None
    assert forked.result.answer == "changed"
    assert forked.result.usage["vllm:root"].calls == 2
    other = Plan(how="fork", until_turn=1, question=Asked("FINAL(a)"))
    asked = await run_again(settings, folder, "banana", other)
    assert asked.result is not None
    (failed,) = events(asked.recording, QuestionFailed)
    assert failed.ask == 1
    await the_same(settings, asked.recording)


async def test_a_recorded_failure_comes_again(settings: Settings) -> None:
    """A run that failed fails as it did when it is replayed; what resumes it asks the model again."""
    with pytest.raises(ModelRejected):
        await ask(settings, "reject")
    (folder,) = settings.runs_dir.iterdir()
    again = await run_again(without_models(settings), folder, "banana")
    assert isinstance(again.error, ModelRejected)
    assert told(again.recording) == told(folder)
    with pytest.raises(ModelRejected):
        await run_again(settings, folder, "banana", Plan(how="resume"))


async def test_what_is_not_recorded_is_told(settings: Settings) -> None:
    """A cell that asks something else than it did has an error, and the replay says which call that was."""
    folder = await ask(settings, "import os\nprint(llm_query(os.urandom(4).hex()))", "FINAL(1)")
    again = await run_again(without_models(settings), folder, "banana")
    assert [(each.node, each.cell, each.call, each.kind) for each in again.missing] == [("", 1, "s1", "llm")]
