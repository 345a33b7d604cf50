"""Retry: what is repeated, when, how often, and for how long at most."""

from __future__ import annotations

import asyncio
import time

import pytest

from rlm_kernel.errors import ModelRejected, ModelReplyInvalid, ModelTimeout, ModelUnavailable, RateLimited
from rlm_kernel.models.model import ModelRequest
from rlm_kernel.models.retry import Retrying, RetryPolicy
from tests.unit.models.fakes import ASK, ListedModel

POLICY = RetryPolicy(attempts=4, total_seconds=60, first_wait=1, longest_wait=3)


class Waits(list[float]):
    """A sleep that only notes how long it would have been."""

    async def __call__(self, seconds: float) -> None:
        """Note `seconds`."""
        self.append(seconds)


async def test_a_passing_failure_is_repeated() -> None:
    """Retryable errors are repeated, and the completion says how many attempts there were."""
    model = ListedModel(ModelUnavailable("x"), ModelReplyInvalid("x"), "ok")
    completion = await Retrying(model, POLICY, sleep=Waits()).complete(ASK)
    assert (completion.text, completion.attempts, model.calls) == ("ok", 3, 3)


async def test_waits_grow_with_jitter_up_to_the_longest() -> None:
    """Waits double from the first, have jitter of at most the first, and never pass the longest."""
    waits = Waits()
    model = ListedModel(*[ModelUnavailable("x")] * 3, "ok")
    await Retrying(model, POLICY, sleep=waits).complete(ASK)
    assert 1 <= waits[0] <= 2 <= waits[1] <= 3
    assert waits[2] == 3


async def test_two_calls_do_not_wait_equally_long() -> None:
    """Calls that fail together do not come back together, asked to wait or not."""
    for error in (ModelUnavailable("x"), RateLimited("x", retry_after=2.0)):
        waits = Waits()
        for _ in range(5):
            await Retrying(ListedModel(error, "ok"), POLICY, sleep=waits).complete(ASK)
        assert len(set(waits)) == 5


async def test_the_wish_to_wait_is_honoured() -> None:
    """The wait is at least what the provider asked for, and less than our first wait above it."""
    waits = Waits()
    model = ListedModel(RateLimited("x", retry_after=20.0), "ok")
    await Retrying(model, POLICY, sleep=waits).complete(ASK)
    assert 20 <= waits[0] <= 21


async def test_a_wish_past_the_total_time_fails_at_once() -> None:
    """A provider that asks for more time than is left ends the call at once, with its own error."""
    waits = Waits()
    error = RateLimited("x", retry_after=61.0)
    model = ListedModel(error, "ok")
    with pytest.raises(RateLimited) as caught:
        await Retrying(model, POLICY, sleep=waits).complete(ASK)
    assert caught.value is error
    assert (model.calls, waits) == (1, [])


async def test_attempts_are_bounded() -> None:
    """After the last attempt its own error is raised."""
    errors = [ModelUnavailable(str(number)) for number in range(9)]
    model = ListedModel(*errors)
    with pytest.raises(ModelUnavailable) as caught:
        await Retrying(model, POLICY, sleep=Waits()).complete(ASK)
    assert caught.value is errors[3]
    assert model.calls == 4


async def test_a_lasting_failure_is_not_repeated() -> None:
    """Any other error ends the call at the first attempt, a bug in our own code too."""
    for error in (ModelRejected("x"), ValueError("a bug")):
        model = ListedModel(error, "ok")
        with pytest.raises(type(error)):
            await Retrying(model, POLICY, sleep=Waits()).complete(ASK)
        assert model.calls == 1


async def test_total_time_cuts_a_running_attempt() -> None:
    """The total time ends an attempt that runs, and the error tells of the failure before."""
    model = ListedModel(RateLimited("slow down", retry_after=0.0), 30.0, "late")
    retrying = Retrying(model, RetryPolicy(total_seconds=0.2, first_wait=0.01))
    start = time.monotonic()
    with pytest.raises(ModelTimeout, match=r"0\.2 s in all.*slow down"):
        await retrying.complete(ASK)
    assert time.monotonic() - start < 2
    assert model.cancelled == 1


async def test_a_timeout_of_the_model_is_no_timeout_of_ours() -> None:
    """A `TimeoutError` that comes from inside is raised on as it is."""
    with pytest.raises(TimeoutError, match="inner"):
        await Retrying(ListedModel(TimeoutError("inner")), POLICY).complete(ASK)


async def test_every_wait_is_told_beforehand() -> None:
    """`on_retry` gets the attempt's number, its error and the wait, before the wait, and not for the last failure."""
    told: list[tuple[int, str, float]] = []
    waits = Waits()

    def on_retry(attempt: int, error: BaseException, wait: float) -> None:
        assert len(waits) == len(told)
        told.append((attempt, str(error), wait))

    errors = [ModelUnavailable(str(number)) for number in range(1, 5)]
    request = ModelRequest(messages=ASK.messages, on_retry=on_retry)
    with pytest.raises(ModelUnavailable):
        await Retrying(ListedModel(*errors), POLICY, sleep=waits).complete(request)
    assert told == [(1, "1", waits[0]), (2, "2", waits[1]), (3, "3", waits[2])]


async def test_a_cancel_ends_the_attempt() -> None:
    """A cancel reaches the attempt that runs and is not taken for a failure."""
    model = ListedModel(30.0, "late")
    task = asyncio.ensure_future(Retrying(model, POLICY).complete(ASK))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (model.calls, model.cancelled) == (1, 1)
