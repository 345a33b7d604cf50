"""The gate before a provider: calls of all sessions of this process pass it in turn, whatever loop they run in."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

from rlm_kernel.errors import ModelError, ModelTimeout, ModelUnreachable, RateLimited, RetryableModelError
from rlm_kernel.loops import soon
from rlm_kernel.models.breaker import Breaker
from rlm_kernel.models.model import Queued
from rlm_kernel.models.turns import UNLIMITED, Rates, Ticket, Turns

LONGEST_PAUSE = 600.0
"""What a provider can ask for at most with one reply: a header that is wrong is not to end all use of it."""


class Pass(Ticket):
    """A call at a gate: waiting for its turn in its own event loop, then through."""

    __slots__ = ("future", "loop", "patience", "through", "trial", "waits")

    def __init__(self, lane: Hashable, tokens: float, patience: float) -> None:
        super().__init__(lane, tokens)
        self.patience = patience
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] | None = None
        self.waits = False
        self.through = False
        self.trial = False

    def tell(self, error: ModelError | None = None) -> bool:
        """Wake the call, which may be another loop's; False if that loop is closed."""
        return soon(self.loop, self._settle, error)

    def _settle(self, error: ModelError | None) -> None:
        if self.future is None or self.future.done():
            return
        if error is None:
            self.future.set_result(None)
        else:
            self.future.set_exception(error)


class Gate:
    """Lets calls through as the strictest rates in use allow, its lanes in turn. Threads and event loops may share it.

    A provider that asks for time gets it from all calls. One that can't be reached is let be for a while (`Breaker`).
    """

    def __init__(self, place: str, rates: Rates = UNLIMITED, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`place` is the address behind it, for messages; `rates` hold for as long as the gate is there."""
        self._place = place
        self._clock = clock
        self._lock = threading.Lock()
        self._turns = Turns()
        self._breaker = Breaker(place)
        self._in_use = [rates]
        self._turns.limit(rates)
        self._closed_until = -math.inf
        self._wakes: tuple[asyncio.AbstractEventLoop, float] | None = None

    @property
    def counts_tokens(self) -> bool:
        """Whether tokens are limited, so that calls should say how many they use."""
        return self._turns.counts_tokens

    @contextmanager
    def limited(self, rates: Rates) -> Iterator[None]:
        """Keep to `rates` too while the block runs."""
        self._use(self._in_use.append, rates)
        try:
            yield
        finally:
            self._use(self._in_use.remove, rates)

    async def enter(self, lane: Hashable, queued: Queued, *, tokens: float = 0.0, patience: float = math.inf) -> Pass:
        """Wait for this lane's turn; whoever is let through must `leave`. A cancel while waiting leaves nothing.

        Raise `ModelUnreachable` for a provider that is down, and `RateLimited` instead of waiting for longer than
        `patience` seconds for one that asked for time.
        """
        call = Pass(lane, tokens, patience)
        with self._lock:
            now = self._clock()
            if (error := self._refusal(call, now)) is not None:
                raise error
            if self._turns.first() is None and self._wait(call, now) <= 0:
                self._turns.take(tokens)
                call.trial = self._breaker.tries()
                return call
            future = self._join(call)
            self._advance()
        try:
            with queued():
                await future
        except BaseException:  # a cancel, which may come after the turn did
            with self._lock:
                self._withdraw(call)
            raise
        return call

    def leave(self, call: Pass, *, tokens_over: float = 0.0, error: BaseException | None = None) -> None:
        """Count a call's end: with a reply, or with `error`, from which the gate learns how the provider is."""
        with self._lock:
            now = self._clock()
            self._turns.end(tokens_over)
            if isinstance(error, ModelUnreachable):
                self._breaker.failed(now, str(error), trial=call.trial)
            elif error is None or (isinstance(error, ModelError) and not isinstance(error, ModelTimeout)):
                self._breaker.answered()
            else:
                self._breaker.ended(trial=call.trial)
            if isinstance(error, RetryableModelError) and error.retry_after is not None:
                self._closed_until = max(self._closed_until, now + min(error.retry_after, LONGEST_PAUSE))
            self._advance()

    def _use(self, change: Callable[[Rates], None], changed: Rates) -> None:
        with self._lock:
            change(changed)
            rates = UNLIMITED
            for each in self._in_use:
                rates = rates.and_also(each)
            self._turns.limit(rates)
            self._advance()

    def _refusal(self, call: Pass, now: float) -> ModelError | None:
        if (refusal := self._breaker.refusal(now)) is not None:
            return refusal
        if (pause := self._closed_until - now) > call.patience:
            return RateLimited(
                f"{self._place} asked for {pause:.0f} s without calls; wait, or use another model", retry_after=pause
            )
        return None

    def _wait(self, call: Pass, now: float) -> float:
        return max(self._closed_until - now, self._turns.wait(call.tokens, now))

    def _advance(self) -> None:
        """Let through, or refuse, whoever's turn it is, until one has to wait."""
        now = self._clock()
        while isinstance(call := self._turns.first(), Pass):
            if (error := self._refusal(call, now)) is not None:
                self._drop(call)
                call.tell(error)
            elif (wait := self._wait(call, now)) <= 0:
                self._turns.serve(call)
                call.trial, call.through, call.waits = self._breaker.tries(), True, False
                if not call.tell():
                    self._take_back(call)
            elif wait == math.inf or self._wake_at(call.loop, now + wait, wait):
                return
            else:
                self._drop(call)

    def _join(self, call: Pass) -> asyncio.Future[None]:
        self._turns.join(call)
        call.waits = True
        call.future = call.loop.create_future()
        return call.future

    def _drop(self, call: Pass) -> None:
        self._turns.withdraw(call)
        call.waits = False

    def _take_back(self, call: Pass) -> None:
        self._turns.unsent(call.tokens)
        self._breaker.ended(trial=call.trial)

    def _withdraw(self, call: Pass) -> None:
        if call.through:
            self._take_back(call)
        elif call.waits:
            self._drop(call)
        self._advance()

    def _wake_at(self, loop: asyncio.AbstractEventLoop, when: float, wait: float) -> bool:
        """Look again after `wait` seconds, in the loop whose turn it is: it is the one with a reason to live on."""
        if loop.is_closed():
            return False
        if self._wakes is not None and self._wakes[0] is loop and self._wakes[1] <= when:
            return True
        self._wakes = (loop, when)
        return soon(loop, loop.call_later, wait, self._wake)

    def _wake(self) -> None:
        with self._lock:
            self._wakes = None
            self._advance()
