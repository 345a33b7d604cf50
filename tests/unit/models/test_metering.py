"""Counting use and cost."""

from __future__ import annotations

import time

import pytest

from rlm_kernel.errors import ModelReplyInvalid, ModelUnavailable
from rlm_kernel.models.metering import Meter, Metered, free, published, unknown
from rlm_kernel.types import Usage
from tests.unit.models.fakes import ASK, USED, ListedModel

GPT_5 = 600 * 1.25e-6 + 400 * 0.125e-6 + 100 * 10e-6
"""What `USED` costs at gpt-5's published prices for fresh input, cached input and output."""


async def test_cost_follows_the_published_prices() -> None:
    """Fresh, cached and output tokens are each priced as published, in the completion and in the meter."""
    meter = Meter()
    model = Metered(ListedModel("ok", served_by="gpt-5"), meter, published("openai", "gpt-5"))
    completion = await model.complete(ASK)
    assert completion.usage.cost_usd == pytest.approx(GPT_5)
    assert meter.usage == {"fake:listed": completion.usage}


async def test_a_dated_name_has_the_price_of_the_model_asked_for() -> None:
    """A provider that answers under a name without a price is charged as the model that was asked for."""
    tariff = published("openai", "gpt-5")
    assert tariff("gpt-5-2099-01-01-nightly", USED) == pytest.approx(GPT_5)


def test_writing_to_the_cache_costs_more() -> None:
    """Anthropic's cache writes are priced above fresh input."""
    tariff = published("anthropic", "claude-sonnet-4-5")
    fresh = tariff("claude-sonnet-4-5", Usage(input_tokens=1000))
    written = tariff("claude-sonnet-4-5", Usage(input_tokens=1000, cache_write_tokens=1000))
    assert fresh == pytest.approx(0.003)
    assert written == pytest.approx(0.003 * 1.25)


async def test_an_unknown_price_is_never_zero() -> None:
    """One call without a known price makes the sum unknown, whatever the others cost."""
    assert published("openai", "no-such-model")("neither-this", USED) is None
    meter = Meter()
    first = await Metered(ListedModel("ok"), meter, free).complete(ASK)
    second = await Metered(ListedModel("ok"), meter, unknown).complete(ASK)
    assert (first.usage.cost_usd, second.usage.cost_usd) == (0, None)
    assert meter.usage["fake:listed"].cost_usd is None
    assert meter.usage["fake:listed"].calls == 2


@pytest.mark.parametrize(
    "impossible", [Usage(input_tokens=10, cached_input_tokens=400), Usage(input_tokens=10, output_tokens=-1)]
)
def test_counts_that_cannot_be_have_no_price(impossible: Usage) -> None:
    """A provider that counts wrongly makes the cost unknown, and no run fails for it."""
    assert published("openai", "gpt-5")("gpt-5", impossible) is None


def test_a_price_that_is_not_listed_is_looked_for_once() -> None:
    """A thousand calls to a model without a price take no time; one search takes about 0.1 ms."""
    tariff = published("openai", "no-such-model")
    tariff("neither-this", USED)
    started = time.perf_counter()
    assert {tariff("neither-this", USED) for _ in range(1000)} == {None}
    assert time.perf_counter() - started < 0.02


async def test_a_failure_that_cost_something_is_counted() -> None:
    """An error that says what it used is metered; one that doesn't is not."""
    meter = Meter()
    dear = ModelReplyInvalid("empty")
    dear.usage = USED
    model = Metered(ListedModel(dear, ModelUnavailable("gone"), served_by="gpt-5"), meter, published("openai", "gpt-5"))
    for _ in range(2):
        with pytest.raises((ModelReplyInvalid, ModelUnavailable)):
            await model.complete(ASK)
    assert meter.usage["fake:listed"].calls == 1
    assert meter.usage["fake:listed"].cost_usd == pytest.approx(GPT_5)


def test_subcalls_count_for_those_above() -> None:
    """As what models used does."""
    above = Meter()
    below = Meter(above)
    below.add_subcall()
    above.add_subcall()
    assert (above.subcalls, below.subcalls) == (2, 1)
