"""What runs and sessions share: providers' limits, known answers, clients."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel.assembly.models import Clients, Models
from rlm_kernel.budget import Budget, Limits
from rlm_kernel.config import Settings
from rlm_kernel.errors import BudgetExceeded, ConfigError, ModelUnreachable
from rlm_kernel.models import breaker
from rlm_kernel.models.model import ModelRequest
from rlm_kernel.types import Message
from tests.support.provider_server import ProviderServer

ASK = ModelRequest(messages=(Message("user", "hello"),), max_output_tokens=9)


@pytest.fixture
async def vllm(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ProviderServer]:
    """A server of one's own that runs, which `vllm:` models are found at."""
    async with ProviderServer().run() as server:
        monkeypatch.setenv("VLLM_BASE_URL", f"{server.url}/v1")
        yield server


async def test_runs_share_a_providers_limit_in_turn(vllm: ProviderServer, tmp_path: Path) -> None:
    """The calls of two runs together keep to the limit, and a small run's do not wait for all of a large one's."""
    vllm.hold = asyncio.Event()
    settings = Settings(model="vllm:m", provider_concurrency="vllm=2,openai=1", state_dir=tmp_path)
    order: list[str] = []

    async def call(models: Models, name: str) -> None:
        await models.sub.complete(ASK)
        order.append(name)

    async with (
        asyncio.timeout(20),
        Models.open(settings) as large,
        Models.open(settings) as small,
        asyncio.TaskGroup() as tasks,
    ):
        for _ in range(40):
            tasks.create_task(call(large, "large"))
        await vllm.reached(2)
        for _ in range(3):
            tasks.create_task(call(small.session("child"), "small"))
        await asyncio.sleep(0.05)
        assert len(vllm.requests) == 2
        vllm.hold.set()
    assert max(place for place, name in enumerate(order) if name == "small") < 15


async def test_an_unknown_provider_has_no_limit(tmp_path: Path) -> None:
    """A limit for a provider that there is not is refused, with the nearest name."""
    settings = Settings(model="vllm:m", requests_per_minute="opnai=5", state_dir=tmp_path)
    with pytest.raises(ConfigError, match="'opnai' to limit; did you mean openai"):
        async with Models.open(settings):
            pass


async def test_a_later_run_has_the_answers_of_an_earlier_one(vllm: ProviderServer, tmp_path: Path) -> None:
    """With the cache on, an identical sub-call of another run is not sent, costs nothing, and says who paid."""
    settings = Settings(model="vllm:m", cache="write", state_dir=tmp_path)
    for run in ("run-1", "run-2"):
        async with Models.open(settings) as models:
            models.recorded_as(run, pytest.fail)
            child = models.session("s1")
            child.recorded_as(f"{run}/s1", pytest.fail)
            completion = await child.sub.complete(ASK)
            other = await models.sub.complete(replace(ASK, max_output_tokens=3))
    assert len(vllm.requests) == 2
    assert completion.cached is not None
    assert completion.cached.run == "run-1/s1"
    assert other.cached is not None
    assert other.cached.run == "run-1"
    assert models.meter.usage == {}


async def test_a_root_models_answers_are_not_shared(vllm: ProviderServer, tmp_path: Path) -> None:
    """The root model is always asked, though sub-calls go to the same one."""
    settings = Settings(model="vllm:m", cache="write", state_dir=tmp_path)
    async with Models.open(settings) as models:
        for model in (models.root, models.root, models.sub, models.sub):
            await model.complete(ASK)
    assert len(vllm.requests) == 3


async def test_a_script_is_never_a_known_answer(tmp_path: Path) -> None:
    """A script's turns come in order with the cache on too."""
    script = tmp_path / "script.md"
    script.write_text("--- turn ---\none\n--- turn ---\ntwo\n")
    settings = Settings(model=f"scripted:{script}", cache="write", state_dir=tmp_path)
    async with Models.open(settings) as models:
        assert [(await models.sub.complete(ASK)).text for _ in range(2)] == ["one", "two"]


@pytest.mark.parametrize(("settings", "requests"), [({}, 5), ({"coalesce": True}, 1), ({"cache": "read"}, 1)])
async def test_identical_calls_at_once(
    vllm: ProviderServer, tmp_path: Path, settings: dict[str, Any], requests: int
) -> None:
    """By default each is made, as each may be wanted; with `coalesce`, or a cache, they are one request."""
    async with Models.open(Settings(model="vllm:m", state_dir=tmp_path, **settings)) as models:
        completions = await asyncio.gather(*(models.sub.complete(ASK) for _ in range(5)))
    assert len(vllm.requests) == requests
    assert {completion.text for completion in completions} == {"ok"}


async def test_a_cancel_of_all_callers_reaches_the_provider(vllm: ProviderServer, tmp_path: Path) -> None:
    """Through all wrappers, a cancel closes the request at the provider, and those that waited are never sent."""
    vllm.hold = asyncio.Event()
    settings = Settings(model="vllm:m", cache="write", provider_concurrency=1, state_dir=tmp_path)
    async with asyncio.timeout(20), Models.open(settings) as models:
        asks = [ASK, ASK, replace(ASK, max_output_tokens=8)]
        calls = [asyncio.ensure_future(models.sub.complete(ask)) for ask in asks]
        await vllm.reached(1)
        for call in reversed(calls):
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await vllm.disconnected.wait()
        assert len(vllm.requests) == 1
        vllm.hold.set()
        assert (await models.sub.complete(ASK)).text == "ok"


async def test_runs_share_open_clients(vllm: ProviderServer, tmp_path: Path) -> None:
    """Runs that are given open clients use them and leave them open; each reads its script from the start."""
    script = tmp_path / "script.md"
    script.write_text("--- turn ---\none\n")
    settings = Settings(model=f"scripted:{script}", sub_model="vllm:m", state_dir=tmp_path)
    clients = []
    async with Clients(settings) as kept:
        for _ in range(2):
            async with Models.open(settings, kept) as models:
                assert (await models.root.complete(ASK)).text == "one"
                assert (await models.sub.complete(ASK)).text == "ok"
                clients.append(models.clients[1])
    assert clients[0] is clients[1]
    assert len(vllm.requests) == 2


async def test_a_dead_address_is_given_up_until_it_is_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Calls to an address where nothing listens soon fail at once, of other runs too; once it is back all go."""
    monkeypatch.setattr(breaker, "SPAN", 0.0)
    monkeypatch.setattr(breaker, "FIRST_REST", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("VLLM_BASE_URL", f"http://127.0.0.1:{port}/v1")
    settings = Settings(model="vllm:m", retry_attempts=1, state_dir=tmp_path)
    async with asyncio.timeout(30), Models.open(settings) as first, Models.open(settings) as second:
        for _ in range(breaker.FAILURES):
            with pytest.raises(ModelUnreachable, match="Connect call failed"):
                await first.sub.complete(ASK)
        with pytest.raises(ModelUnreachable, match=f"127.0.0.1:{port} in 5 attempts, so none is made"):
            await second.sub.complete(ASK)
        async with ProviderServer().run(port) as server:
            while not server.requests:
                with suppress(ModelUnreachable):
                    await second.sub.complete(ASK)
                await asyncio.sleep(0.05)
            await asyncio.gather(*(first.sub.complete(ASK) for _ in range(20)))


async def test_a_known_answer_takes_no_tokens_and_is_a_sub_call(vllm: ProviderServer, tmp_path: Path) -> None:
    """Identical calls pay once, and no loop makes more of them than sub-calls are allowed."""
    settings = Settings(model="vllm:m", cache="write", state_dir=tmp_path)
    async with Models.open(settings) as models:
        budget = Budget(Limits(subcalls=5, total_tokens=100_000))
        limited = models.under(budget)
        paid = []
        for _ in range(5):
            await limited.sub.complete(ASK)
            paid.append(budget.used().total_tokens)
        with pytest.raises(BudgetExceeded, match="5 sub-calls"):
            await limited.sub.complete(ASK)
    assert paid[0]
    assert set(paid) == {paid[0]}
    assert len(vllm.requests) == 1
