"""Models that keep to a budget."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import replace

import pytest

from rlm_kernel.budget import Budget, Limits, Prices
from rlm_kernel.budget.tokens import PER_IMAGE
from rlm_kernel.errors import BudgetExceeded, ModelReplyInvalid, ModelTimeout, ModelUnavailable, RateLimited
from rlm_kernel.models.budgeted import Budgeted, Counted, guess_request
from rlm_kernel.models.gate import Gate
from rlm_kernel.models.limited import Gated
from rlm_kernel.models.metering import prices_of, published
from rlm_kernel.models.model import Completion, ModelRequest, TextDelta
from rlm_kernel.models.retry import Retrying, RetryPolicy
from rlm_kernel.models.turns import Rates
from rlm_kernel.types import Image, Message, Tool, ToolCall, Usage
from tests.support.fakes import FakeModel, SilentModel, completion
from tests.unit.models.fakes import ASK, ListedModel

NAME = "fake:listed"


def used(budget: Budget) -> int:
    """Return the tokens that count as used, once nothing is in flight."""
    total = budget.used().total_tokens
    assert total is not None
    return total


async def test_a_reply_counts_with_what_it_used() -> None:
    """The provider is sent a maximum output, and what it then reports is what counts."""
    budget = Budget(Limits(total_tokens=100_000))
    reply = Completion(text="ok", finish_reason="stop", usage=Usage(calls=1, input_tokens=40), served_by="f")
    model = FakeModel([reply])
    await Budgeted(model, budget, is_sub=True).complete(ASK)
    assert model.requests[0].max_output_tokens == 8192
    assert used(budget) == 40
    assert budget.remaining().total_tokens == 100_000 - 40


async def test_without_limits_requests_stay_as_they_are() -> None:
    """Where neither tokens nor cost are limited no maximum output is made up, and a smaller one of a request stays."""
    model = FakeModel(["one", "two"])
    budgeted = Budgeted(model, Budget(), is_sub=True)
    await budgeted.complete(ASK)
    assert model.requests[0].max_output_tokens is None
    limited = Budgeted(model, Budget(Limits(total_tokens=100_000)), is_sub=True)
    await limited.complete(ModelRequest(messages=ASK.messages, max_output_tokens=7))
    assert model.requests[1].max_output_tokens == 7


@pytest.mark.parametrize(
    ("error", "usage", "counted"),
    [
        (RateLimited("429"), None, 0),
        (ModelUnavailable("503"), None, 0),
        (ModelReplyInvalid("empty"), Usage(calls=1, input_tokens=30, output_tokens=9), 39),
        (ModelReplyInvalid("no JSON"), None, 126),
        (ModelTimeout("late"), None, 126),
    ],
)
async def test_a_failure_counts_as_far_as_it_may_be_charged(
    error: RateLimited | ModelUnavailable, usage: Usage | None, counted: int
) -> None:
    """A refusal counts nothing, a failure with known usage that, and one that may be charged its whole estimate."""
    budget = Budget(Limits(total_tokens=100_000))
    error.usage = usage
    with pytest.raises(type(error)):
        await Budgeted(FakeModel([error]), budget, is_sub=True).complete(
            ModelRequest(messages=ASK.messages, max_output_tokens=100)
        )
    assert used(budget) == counted
    assert budget.remaining().total_tokens == 100_000 - counted


@pytest.mark.parametrize("pieces", [0, 1])
async def test_a_stream_that_broke_off_may_be_charged(pieces: int) -> None:
    """An attempt that failed in the middle of its reply counts with its whole estimate, one before it with nothing."""

    class Breaking(FakeModel):
        async def complete(self, request: ModelRequest) -> Completion:
            assert request.on_text is not None
            for _ in range(pieces):
                request.on_text(TextDelta("text", "so"))
            return await super().complete(request)

    budget, heard = Budget(Limits(total_tokens=100_000)), list[TextDelta]()
    request = replace(ASK, max_output_tokens=100, on_text=heard.append)
    with pytest.raises(ModelUnavailable):
        await Budgeted(Breaking([ModelUnavailable("broke off")]), budget, is_sub=False).complete(request)
    assert used(budget) == 126 * pieces
    assert len(heard) == pieces


@pytest.mark.parametrize(("limit", "told"), [(400, True), (100_000, False)])
async def test_a_reply_that_the_budget_cut_off_says_so(limit: int, told: bool) -> None:
    """A reply that ends at a maximum which what was left made smaller comes with a note, any other without."""
    budget = Budget(Limits(total_tokens=limit))
    model = FakeModel([completion("and then", "length")])
    request = replace(ASK, max_output_tokens=500)
    assert ("budget" in (await Budgeted(model, budget, is_sub=True).complete(request)).note) is told


async def test_every_attempt_counts_and_the_sub_call_once() -> None:
    """A call with two failed attempts is one sub-call, and the tokens of all its attempts are used."""
    budget = Budget(Limits(total_tokens=100_000, subcalls=1))
    dear = ModelReplyInvalid("empty")
    dear.usage = Usage(calls=1, input_tokens=30)
    model = Retrying(
        Budgeted(FakeModel([dear, RateLimited("429"), completion("ok")]), budget, is_sub=True),
        RetryPolicy(first_wait=0.001),
    )
    await Counted(model, budget, is_sub=True).complete(ASK)
    assert used(budget) == 30 + 2
    assert budget.used().subcalls == 1
    with pytest.raises(BudgetExceeded, match="1 sub-calls"):
        await Counted(model, budget, is_sub=True).complete(ASK)


async def test_a_cancelled_call_counts_its_estimate_if_it_was_sent() -> None:
    """A call that is cancelled at the provider counts in full; one that waited for its turn counts nothing."""
    budget = Budget(Limits(total_tokens=100_000))
    gate = Gate("a provider", Rates(concurrency=1))
    silent = SilentModel()
    model = Budgeted(Gated(silent, gate, "lane", patience=10), budget, is_sub=True)
    request = ModelRequest(messages=ASK.messages, max_output_tokens=100)
    sent = asyncio.create_task(model.complete(request))
    await silent.asked.wait()
    waiting = asyncio.create_task(model.complete(request))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert used(budget) == 0
    sent.cancel()
    await asyncio.wait([sent])
    assert silent.cancelled
    assert used(budget) == 126
    assert budget.remaining().total_tokens == 100_000 - 126


async def test_a_server_that_counts_nothing_is_counted_by_guess() -> None:
    """A reply without usage counts with its request's estimate and the length of its text."""
    budget = Budget(Limits(total_tokens=100_000))
    reply = Completion(text="word " * 300, finish_reason="stop", usage=Usage(calls=1), served_by="f")
    await Budgeted(FakeModel([reply, reply]), budget, is_sub=True).complete(ASK)
    assert 300 <= used(budget) <= 1_000


async def test_waiting_for_the_budget_is_time_of_nobody() -> None:
    """While a call waits for others to be settled its request is told that it is queued."""
    budget = Budget(Limits(total_tokens=600))
    held = await budget.admit(budget.call(NAME, 100, 400))
    queued: list[str] = []

    @contextmanager
    def telling():  # type: ignore[no-untyped-def]
        queued.append("begun")
        yield
        queued.append("over")

    model = Budgeted(ListedModel("ok"), budget, is_sub=True)
    request = ModelRequest(messages=ASK.messages, max_output_tokens=400, queued=telling)
    task = asyncio.create_task(model.complete(request))
    await asyncio.sleep(0.01)
    assert queued == ["begun"]
    held.release()
    await task
    assert queued == ["begun", "over"]


async def test_the_time_of_a_run_ends_its_calls() -> None:
    """A call that runs when the time is over is cancelled at the provider, with the limit's name."""
    silent = SilentModel()
    model = Counted(silent, Budget(Limits(seconds=0.05)), is_sub=False)
    with pytest.raises(BudgetExceeded, match="--run-timeout"):
        await model.complete(ASK)
    assert silent.cancelled


def test_all_parts_of_a_request_are_guessed() -> None:
    """Tool definitions, tool calls, reasoning and images count for the input, not text alone."""
    plain = guess_request(ASK)
    rich = ModelRequest(
        messages=(
            Message("user", "hello", images=(Image("image/png", b"x"),)),
            Message(
                "assistant", "", tool_calls=(ToolCall("1", "python", "x" * 300),), reasoning={"thought": "y" * 300}
            ),
        ),
        tools=(Tool("python", "z" * 300, {"type": "object"}),),
    )
    assert guess_request(rich) >= plain + PER_IMAGE + 300


def test_prices_come_from_the_published_ones() -> None:
    """A published model's prices bound what its calls cost; a model without a price has none."""
    tariff = published("anthropic", "claude-sonnet-4-5")
    prices = prices_of(tariff, "claude-sonnet-4-5")
    assert prices is not None
    assert prices is prices_of(published("anthropic", "claude-sonnet-4-5"), "claude-sonnet-4-5")
    budget = Budget(prices={NAME: prices})
    call = budget.call(NAME, 1_000, 500)
    real = tariff("claude-sonnet-4-5", Usage(input_tokens=call.input_tokens, output_tokens=500))
    assert real is not None
    assert real <= call.cost(500) / 10**12 <= 2 * real
    assert prices_of(published("openai", "no-such-model"), "neither") is None
    assert isinstance(prices, Prices)
