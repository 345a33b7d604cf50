"""Sub-calls under load, through a whole run: faults, limits, cancellation, known answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from rlm_kernel import RLM, Settings
from rlm_kernel.events import SubcallReplied
from rlm_kernel.types import Usage
from tests.support.faults import FAULTS, Faulty
from tests.support.provider_server import ProviderServer, Reply, provider_process
from tests.support.sinks import Events
from tests.support.storm import storm

CALLS = 5 * len(FAULTS) * 4


@pytest.fixture
def settings(image: str, tmp_path: Path) -> Settings:
    """Settings with a state folder of the test's own and a server of one's own as the provider."""
    assert image
    return Settings(state_dir=tmp_path / "state", memory=512 * 2**20, sub_model="vllm:m", cell_timeout=60)


@pytest.fixture
async def vllm(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ProviderServer]:
    """The provider, which runs."""
    async with ProviderServer().run() as server:
        monkeypatch.setenv("VLLM_BASE_URL", f"{server.url}/v1")
        yield server


def script(tmp_path: Path, code: str) -> str:
    """Write a script of one cell and return the model's name for it."""
    file = tmp_path / f"script-{len(list(tmp_path.iterdir()))}.md"
    file.write_text(f"--- turn ---\n```repl\n{code}\n```\n")
    return f"scripted:{file}"


async def test_every_fault_is_survived(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of hundreds of sub-calls a fifth fails at first in every way: each is answered, once, in its place."""
    with provider_process("--faults") as url:
        monkeypatch.setenv("VLLM_BASE_URL", f"{url}/v1")
        seen = await storm(CALLS, replace(settings, request_timeout=3.0), tmp_path)
    seen.assert_complete(CALLS)
    assert seen.retried.total() >= CALLS // 5


def test_the_faults_are_those_meant() -> None:
    """One prompt in five fails, once each, and every fault has its turn."""
    faulty = Faulty()
    bodies = [{"messages": [{"content": f"q{number}"}]} for number in range(CALLS)]
    first = [faulty(body) for body in bodies]
    assert [reply for reply in first if reply in FAULTS] == [*FAULTS] * 4
    assert [faulty(body) for body in bodies] == [Reply(text=f"a{number}") for number in range(CALLS)]


async def test_a_cell_that_is_stopped_stops_its_calls_at_the_provider(
    settings: Settings, vllm: ProviderServer, tmp_path: Path
) -> None:
    """When a cell's time is over the provider sees all its clients go, and calls that waited are never sent."""
    vllm.hold = asyncio.Event()
    limited = replace(settings, cell_timeout=1.5, provider_concurrency=7, cache="write", max_turns=1)
    root = script(tmp_path, "llm_query_batched([str(n) for n in range(30)])")
    async with RLM(root, "vllm:m", settings=limited) as rlm, asyncio.timeout(60):
        run = asyncio.ensure_future(rlm.acompletion("What?", "x"))
        await vllm.reached(7)
        await vllm.emptied()
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
    assert len(vllm.requests) == 7


async def test_a_later_run_asks_nothing_again(settings: Settings, vllm: ProviderServer, tmp_path: Path) -> None:
    """With the cache on, a second run of the same sub-calls sends nothing, pays nothing, and records whose they are."""
    code = "FINAL(' '.join(llm_query_batched(['one', 'two', 'one'])))"
    results, events = [], Events()
    for sink in (Events(), events):
        chosen = replace(settings, cache="write")
        async with RLM(script(tmp_path, code), "vllm:m", settings=chosen, on_event=sink) as rlm:
            results.append(await rlm.acompletion("What?", "x"))
    assert len(vllm.requests) == 2
    assert [result.answer for result in results] == ["ok ok ok"] * 2
    replies = events.of(SubcallReplied)
    assert [reply.usage for reply in replies] == [Usage()] * 3
    assert {(reply.cached.how, reply.cached.run) for reply in replies if reply.cached} == {("stored", results[0].run)}
    assert results[1].usage.keys().isdisjoint({"vllm:m"})


async def test_a_small_run_is_not_starved(settings: Settings, vllm: ProviderServer, tmp_path: Path) -> None:
    """Beside a run with hundreds of calls waiting, one with three, of another object in another thread, ends soon."""
    vllm.always = Reply(delay=0.02)
    limited = replace(settings, provider_concurrency=4)
    flood = script(tmp_path, "FINAL(len(llm_query_batched([str(n) for n in range(600)])))")
    few = script(tmp_path, "FINAL(len(llm_query_batched(['a', 'b', 'c'])))")
    async with asyncio.timeout(90), RLM(flood, "vllm:m", settings=limited) as large:
        flooding = asyncio.ensure_future(large.acompletion("What?", "x"))
        await vllm.arrived.wait()
        small = RLM(few, "vllm:m", settings=limited)
        answer = (await asyncio.to_thread(small.completion, "What?", "x")).answer
        waiting = 603 - len(vllm.requests)
        assert (await flooding).answer == "600"
    assert answer == "3"
    assert waiting > 0
