"""Retry: one wrapper for every model, so that root calls and sub-calls fail and recover alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential_jitter,
    wait_random,
)
from tenacity.stop import stop_base

from rlm_kernel.errors import ModelTimeout, ModelUnreachable, RetryableModelError
from rlm_kernel.models.model import Completion, Model, ModelRequest, Wrapper


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How long to insist: at most `attempts` attempts and `total_seconds` in all, waits included.

    Waits for a turn at a busy provider do not count. Waits between attempts double from `first_wait` to `longest_wait`
    seconds, plus up to `first_wait` of jitter.
    """

    attempts: int = 6
    total_seconds: float = 900.0
    first_wait: float = 0.5
    longest_wait: float = 30.0


class Retrying(Wrapper):
    """Repeats what failed with a `RetryableModelError`; every other error ends the call at once.

    The provider's own wish (`retry_after`) is honoured, or, if it reaches past the total time, the call fails at once
    with the provider's error. The total time also cuts an attempt that runs, with `ModelTimeout`.
    """

    def __init__(
        self, model: Model, policy: RetryPolicy, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        super().__init__(model)
        self._policy = policy
        self._sleep = sleep
        self._backoff = wait_exponential_jitter(
            multiplier=policy.first_wait, max=policy.longest_wait, jitter=policy.first_wait
        )
        self._jitter = wait_random(0, policy.first_wait)

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer one request within the policy's bounds; raise the last attempt's error."""
        seconds = self._policy.total_seconds
        patience = _Patience(seconds)
        failures: list[RetryableModelError] = []

        def before_wait(state: RetryCallState) -> None:
            error, wait = _error(state), state.upcoming_sleep
            failures.append(error)
            if request.on_retry is not None:
                request.on_retry(state.attempt_number, error, wait)

        retrying = AsyncRetrying(
            retry=retry_if_exception(_may_pass),
            stop=stop_after_attempt(self._policy.attempts) | patience,
            wait=self._wait,
            before_sleep=before_wait,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            async with patience.total:
                attempt = replace(request, queued=patience.paused)
                completion: Completion = await retrying(self._model.complete, attempt)
        except TimeoutError:
            if not patience.total.expired():
                raise
            last = f"; the failure before: {failures[-1]}" if failures else ""
            raise ModelTimeout(f"{self.name}: no reply within {seconds:g} s in all{last}") from None
        return replace(completion, attempts=len(failures) + 1)

    def _wait(self, state: RetryCallState) -> float:
        backoff = self._backoff(state)
        asked = _error(state).retry_after
        return backoff if asked is None else max(backoff, asked + self._jitter(state))


class _Patience(stop_base):
    """The total time of one call, which stands still while the call waits for its turn."""

    def __init__(self, seconds: float) -> None:
        self.total = asyncio.timeout(seconds)
        self._seconds = seconds
        self._paused = 0.0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let the time stand still."""
        loop, when = asyncio.get_running_loop(), self.total.when()
        assert when is not None
        self.total.reschedule(None)
        begun = loop.time()
        try:
            yield
        finally:
            spent = loop.time() - begun
            self._paused += spent
            self.total.reschedule(when + spent)

    def __call__(self, state: RetryCallState) -> bool:
        """Tell whether the time ends before another attempt would begin."""
        return (state.seconds_since_start or 0.0) - self._paused + state.upcoming_sleep >= self._seconds


def _may_pass(error: BaseException) -> bool:
    given_up = isinstance(error, ModelUnreachable) and error.given_up
    return isinstance(error, RetryableModelError) and not given_up


def _error(state: RetryCallState) -> RetryableModelError:
    error = state.outcome.exception() if state.outcome is not None else None
    assert isinstance(error, RetryableModelError)
    return error
