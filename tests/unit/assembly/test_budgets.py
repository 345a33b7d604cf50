"""A run's budget, made of its settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rlm_kernel.assembly.budgets import limits_of, open_budget, remember
from rlm_kernel.assembly.models import Models
from rlm_kernel.budget import Limits
from rlm_kernel.config import Settings
from rlm_kernel.errors import ConfigError
from rlm_kernel.events import BudgetWarning, Notice
from rlm_kernel.models.model import ModelRequest
from rlm_kernel.types import Message, Usage
from tests.support.fakes import ListSink
from tests.support.provider_server import INPUT_TOKENS, OUTPUT_TOKENS, ProviderServer

PER_RUN = INPUT_TOKENS + OUTPUT_TOKENS
ASK = ModelRequest(messages=(Message("user", "hello"),))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a server of one's own, whose prices nobody knows."""
    return Settings(model="vllm:m", state_dir=tmp_path)


def test_every_limit_comes_from_its_setting(settings: Settings) -> None:
    """No limit of a run is without a setting, and none is lost on the way."""
    given = replace(
        settings,
        max_subcalls=1,
        max_input_tokens=2,
        max_output_tokens=3,
        max_total_tokens=4,
        max_cost=5.0,
        max_output_size=6,
        run_timeout=7.0,
        max_turns=8,
        max_depth=9,
        cell_timeout=10.0,
        max_parallel_subcalls=11,
        max_reply_tokens=12,
    )
    limits = limits_of(given)
    assert [getattr(limits, name) for name in Limits.__slots__] == list(range(1, 13))


async def test_an_unknown_price_is_refused_before_anything_starts(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a cost limit a model without a price is a clear error, unless counting its tokens only is chosen."""
    with pytest.raises(ConfigError, match=r"vllm:m.*--unknown-prices tokens"):
        async with Models.open(replace(settings, max_cost=1.0)):
            pass
    async with ProviderServer().run() as server:
        monkeypatch.setenv("VLLM_BASE_URL", f"{server.url}/v1")
        chosen = replace(settings, max_cost=1.0, unknown_prices="tokens", max_total_tokens=100_000)
        sink = ListSink()
        async with Models.open(chosen) as models:
            budget = open_budget(chosen, models.prices, sink)
            await models.under(budget).sub.complete(ASK)
    assert [event.message for event in sink.events if isinstance(event, Notice)] == [
        "the price of vllm:m is not known: its calls do not count for --max-cost"
    ]
    assert budget.used().total_tokens == PER_RUN
    assert budget.used().cost_usd == 0


async def test_the_server_is_sent_the_maximum_output(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real request carries what the budget allows at most."""
    async with ProviderServer().run() as server:
        monkeypatch.setenv("VLLM_BASE_URL", f"{server.url}/v1")
        limited = replace(settings, max_total_tokens=1_000)
        async with Models.open(limited) as models:
            await models.under(open_budget(limited, models.prices, ListSink())).sub.complete(ASK)
        async with Models.open(settings) as models:
            await models.under(open_budget(settings, models.prices, ListSink())).sub.complete(ASK)
    assert 900 < server.requests[0].body["max_tokens"] < 1_000
    assert "max_tokens" not in server.requests[1].body


async def test_a_run_that_uses_more_than_usual_is_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten runs with the same models a run that passes their 90th percentile warns; a disk error is none of it."""
    for _ in range(10):
        remember(settings, {"vllm:m": Usage(calls=1, input_tokens=10, output_tokens=10)})
    sink = ListSink()
    async with ProviderServer().run() as server:
        monkeypatch.setenv("VLLM_BASE_URL", f"{server.url}/v1")
        async with Models.open(settings) as models:
            model = models.under(open_budget(settings, models.prices, sink)).sub
            await model.complete(ASK)
            assert sink.events == []
            await model.complete(ASK)
    assert [(e.kind, e.used, e.threshold) for e in sink.events if isinstance(e, BudgetWarning)] == [
        ("percentile", 2 * PER_RUN, 20)
    ]
    other = ListSink()
    open_budget(replace(settings, budget_percentile=None), {}, other)
    remember(replace(settings, state_dir=Path("/proc/nowhere")), {})
    assert other.events == []
