"""Sessions that start sessions, on the real engine, led by a model that does what its question says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from rlm_kernel import RLM, Settings
from rlm_kernel.assembly import RunResult
from rlm_kernel.events import (
    BudgetSpent,
    CellFinished,
    CellOutput,
    ContextStored,
    KernelRebuilt,
    Notice,
    RunFinished,
    RunStarted,
    SandboxStarted,
    SubcallFailed,
    SubcallReplied,
    SubcallRequested,
)
from rlm_kernel.recording import EVENTS_FILE, read_events
from tests.docker.test_rlm import settings as base_settings
from tests.support.obedient import NEXT, nested, obedient_server
from tests.support.sinks import Events

__all__ = ["base_settings"]


@pytest.fixture
async def settings(base_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Settings]:
    """Settings for a model that does what its question says, and sessions down to depth 3."""
    async with obedient_server().run() as server:
        monkeypatch.setenv("VLLM_BASE_URL", f"{server.url}/v1")
        yield replace(
            base_settings, model="vllm:root", sub_model="vllm:sub", max_depth=3, memory=300 * 2**20, max_turns=5
        )


async def run(settings: Settings, question: str, events: Events | None = None) -> RunResult[str]:
    """Have `question` answered about "context"."""
    async with RLM(settings=settings, on_event=events) as rlm:
        return await rlm.acompletion(question, "context")


async def test_sessions_go_three_deep(settings: Settings) -> None:
    """Each session answers the one above; all are in one recording, and what they used counts once."""
    events = Events()
    result = await run(settings, nested(3), events)
    assert result.answer == "1>2>3>echo bottom"
    assert {name: used.calls for name, used in result.usage.items()} == {"vllm:root": 4, "vllm:sub": 1}
    nodes = ["", "s1", "s1/s1", "s1/s1/s1"]
    assert [(node, event.depth) for node, event in events.at(RunStarted)] == [*zip(nodes, range(4), strict=True)]
    runs = dict(events.at(RunStarted))
    assert [runs[node].parent_run for node in nodes] == [None, *(runs[node].run for node in nodes[:3])]
    finished = dict(events.at(RunFinished))
    assert [finished[node].usage["vllm:root"].calls for node in nodes] == [4, 3, 2, 1]
    assert {event.status for event in finished.values()} == {"answered"}
    assert [event.kind for event in events.of(SubcallRequested)] == ["rlm", "rlm", "rlm", "llm"]
    assert len({event.container for event in events.of(SandboxStarted)}) == 4
    records = list(read_events(result.recording / EVENTS_FILE))
    assert [(record.node, record.event) for record in records] == list(zip(events.nodes, events.all, strict=True))
    assert len(list(settings.runs_dir.iterdir())) == 1


ASKED_ABOUT: dict[str, object] = {
    "rlm_query('FINAL([type(context).__name__, context])', context='grün')": '["str", "grün"]',
    "rlm_query('FINAL(context)', context={'a': [1, None, 'ü']})": '{"a": [1, null, "ü"]}',
    "rlm_query('FINAL(context)')": "FINAL(context)",
    "rlm_query('#' * 5000)[:20]": "#" * 20,
    "rlm_query_batched(['FINAL(context)'] * 2, contexts=['a', 'b'])": ["a", "b"],
    "await arlm_query('FINAL(context)', 'vllm:sub', context='c')": "c",
}


async def test_what_a_session_is_asked_about(settings: Settings) -> None:
    """A session's context is what it was given, or the prompt itself; a long one is not in the question too."""
    events = Events()
    result = await run(settings, f"FINAL([{', '.join(ASKED_ABOUT)}])", events)
    assert json.loads(result.answer) == list(ASKED_ABOUT.values())
    asked = {event.call: event.context_digest for event in events.of(SubcallRequested)}
    stored = {node: event.digest for node, event in events.at(ContextStored)}
    assert all(digest in (None, stored[node]) for node, digest in asked.items())
    assert sum(digest is None for digest in asked.values()) == 2
    assert all(len(event.question) < 4000 for event in events.of(RunStarted))


async def test_below_the_depth_limit_it_is_refused(settings: Settings) -> None:
    """At the limit a cell gets `DepthExceeded`, no container is started, and the session goes on."""
    events = Events()
    deep = "try:\n    rlm_query('never')\nexcept DepthExceeded as error:\n    FINAL(str(error))"
    result = await run(replace(settings, max_depth=1), f"FINAL(rlm_query({deep!r}))", events)
    assert result.answer == "the run's depth limit is reached: use llm_query here"
    assert len(events.of(SandboxStarted)) == 2


async def test_below_the_depth_limit_one_plain_call_may_answer(settings: Settings) -> None:
    """Where that is wished for, a sub-model answers with prompt and context in one, and cell and recording say so."""
    events = Events()
    code = (
        "FINAL(rlm_query_batched(['one', 'two'], contexts=[{'k': 1}, None])"
        " + [rlm_query('three', model='vllm:root'), rlm_query('four', model='vllm:sub')])"
    )
    result = await run(replace(settings, max_depth=0, at_max_depth="plain"), code, events)
    assert result.answer == '["echo one\\n\\n{\\"k\\": 1}", "echo two", "echo three", "echo four"]'
    said = "no session may be deeper than 0, so one plain call of a model answers in its place"
    assert [event.message for event in events.of(Notice)] == [said]
    assert "".join(str(event.output["text"]) for event in events.of(CellOutput)) == f"note: {said}\n" * 3
    assert len(events.of(SandboxStarted)) == 1


async def test_a_session_that_fails_raises_in_the_cell(settings: Settings) -> None:
    """A session without an answer is an error of the call that asked, told in our words; the one above goes on."""
    events = Events()
    code = (
        "found = rlm_query_batched(['reject', 'FINAL(1)'], return_exceptions=True)\n"
        "FINAL([isinstance(found[0], LLMQueryError), str(found[0]), found[1]])"
    )
    result = await run(settings, code, events)
    told = "the provider rejected the request; a shorter prompt may help (ModelRejected)"
    assert result.answer == f'[true, "{told}", "1"]'
    assert [event.told for event in events.of(SubcallFailed)] == [told]
    assert sorted(event.status for event in events.of(RunFinished)) == ["answered", "answered", "failed"]


async def test_a_cancel_takes_all_below_along(settings: Settings) -> None:
    """A run that is cancelled ends with every session below, in the recording and on the engine."""
    events, runs = Events(), asyncio.Event()
    events.on(CellOutput, runs.set)
    async with RLM(settings=replace(settings, max_sessions=1), on_event=events) as rlm:
        task = asyncio.ensure_future(rlm.acompletion(nested(2, "print('here', flush=True)\nwhile True: pass"), "c"))
        await asyncio.wait_for(runs.wait(), 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        ended = [(node, event.status) for node, event in events.at(RunFinished)]
        assert (await rlm.acompletion("FINAL('its seat is free')", "c")).answer == "its seat is free"
    assert ended == [("s1/s1", "cancelled"), ("s1", "cancelled"), ("", "cancelled")]


async def test_a_cell_takes_all_below_along(settings: Settings) -> None:
    """Sessions end with the cell that called them, and the session above goes on, with its one seat too."""
    events = Events()
    hang = nested(1, "import time\nwhile True: time.sleep(1)")
    code = (
        "import threading, time\n"
        f"threading.Thread(target=rlm_query, args=({hang!r},), daemon=True).start()\n"
        "time.sleep(2)\n"
        "raise ValueError"
    )
    result = await run(replace(settings, max_sessions=1), f"{code}{NEXT}FINAL('went on')", events)
    assert result.answer == "went on"
    ended = [(node, event.status) for node, event in events.at(RunFinished)]
    assert ended[-1] == ("", "answered")
    assert {status for _, status in ended[:-1]} == {"cancelled"}
    assert events.of(CellFinished)[-1].status == "ok"


async def test_waiting_for_sessions_is_no_time_of_the_cell(settings: Settings) -> None:
    """A cell may wait for a session for longer than a cell may run."""
    nap = "import time; time.sleep(1.2)"
    code = f"FINAL(rlm_query({NEXT.join([nap, nap, 'FINAL(1)'])!r}))"
    assert (await run(replace(settings, cell_timeout=2.0), code)).answer == "1"


async def test_a_session_has_a_share_of_the_budget(settings: Settings) -> None:
    """A session may use its share of what was left when it began, is told when that is spent, and leaves the rest."""
    events = Events()
    greedy = (
        "n = 0\ntry:\n    while True:\n        llm_query('x')\n        n += 1\nexcept BudgetExceeded:\n    FINAL(n)"
    )
    code = f"FINAL([rlm_query({greedy!r}), llm_query('y')])"
    result = await run(replace(settings, max_subcalls=9, child_share=0.5), code, events)
    assert (result.answer, result.status) == ('["4", "echo y"]', "answered")
    assert [node for node, _ in events.at(BudgetSpent)] == ["s1"]
    assert result.usage["vllm:sub"].calls == 5


async def test_a_rebuild_asks_no_session_again(settings: Settings) -> None:
    """Where a kernel is lost, its cells run again with what sessions had answered, by question and context."""
    events = Events()
    first = "a, b = rlm_query_batched(['FINAL(context)'] * 2, contexts=['one', ['two']])"
    code = NEXT.join([first, "import os; os._exit(1)", "FINAL([a, b])"])
    result = await run(replace(settings, rebuild=True), code, events)
    assert result.answer == '["one", "[\\"two\\"]"]'
    assert len(events.of(RunStarted)) == 3
    assert [(event.cells, event.failed) for event in events.of(KernelRebuilt)] == [([1], None)]


async def test_many_sessions_and_two_seats(settings: Settings) -> None:
    """Sessions three deep all answer where two may run at once, with few containers at any time."""
    events = Events()
    code = f"FINAL(' '.join(rlm_query_batched([{nested(1)!r}] * 3)))"
    result = await run(replace(settings, max_sessions=2), code, events)
    assert result.answer == "1>echo bottom 1>echo bottom 1>echo bottom"
    assert events.most_sessions() <= 2 * 3
    assert len(events.of(SubcallReplied)) == 9


async def test_a_share_that_is_too_small_is_not_the_end_of_the_budget(settings: Settings) -> None:
    """Where a session's share allows not even its first call, the cell that asked is told so, and calls go on."""
    events = Events()
    code = "try:\n    rlm_query('FINAL(1)')\nexcept BudgetExceeded as error:\n    FINAL([str(error), llm_query('y')])"
    result = await run(replace(settings, max_total_tokens=100_000, child_share=0.01), code, events)
    told = "the call is too large for what is left of max_total_tokens: make it smaller"
    assert json.loads(result.answer) == [told, "echo y"]
    assert "--child-share" in events.of(SubcallFailed)[0].message
