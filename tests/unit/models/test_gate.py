"""The gate: turns across tasks, threads and event loops, and providers that are down or ask for time."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

from rlm_kernel.errors import (
    ModelError,
    ModelRejected,
    ModelTimeout,
    ModelUnavailable,
    ModelUnreachable,
    RateLimited,
)
from rlm_kernel.models.breaker import FAILURES, FIRST_REST, LONGEST_REST, SPAN, Breaker
from rlm_kernel.models.gate import LONGEST_PAUSE, Gate, Pass
from rlm_kernel.models.limited import Gated
from rlm_kernel.models.retry import Retrying, RetryPolicy
from rlm_kernel.models.turns import Rates
from tests.unit.models.fakes import ASK, ListedModel


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


async def _enter(gate: Gate, lane: object = "lane", **options: Any) -> Pass:
    return await gate.enter(lane, nullcontext, **options)


async def _waiting(gate: Gate, *lanes: object) -> list[asyncio.Task[Pass]]:
    """Let a call wait in each of `lanes`, in this order."""
    tasks = []
    for lane in lanes:
        tasks.append(asyncio.ensure_future(_enter(gate, lane)))
        await asyncio.sleep(0)
    return tasks


async def test_a_late_session_is_served_in_its_turn() -> None:
    """A call of a session that comes late goes before the rest of one that has many waiting."""
    gate = Gate("there", Rates(concurrency=1))
    running = await _enter(gate, "large")
    tasks = await _waiting(gate, *["large"] * 50, "small")
    order = []
    for _ in range(51):
        gate.leave(running)
        await asyncio.sleep(0)
        (done,) = [task for task in tasks if task.done()]
        tasks.remove(done)
        running = done.result()
        order.append(running.lane)
    assert order.index("small") <= 1


async def test_a_cancelled_wait_leaves_nothing() -> None:
    """A call that is cancelled while it waits, or when its turn has come unheard, holds up nobody."""
    gate = Gate("there", Rates(concurrency=1))
    running = await _enter(gate)
    waiting, called, after = await _waiting(gate, 1, 2, 3)
    waiting.cancel()
    await asyncio.sleep(0)
    gate.leave(running)
    called.cancel()
    async with asyncio.timeout(5):
        gate.leave(await after)
        gate.leave(await _enter(gate))
    assert waiting.cancelled()
    assert called.cancelled()


async def test_the_wait_is_told_of() -> None:
    """Whoever waits enters `queued` for that long; whoever need not wait does not."""
    entered = asyncio.Event()

    def queued() -> Any:
        entered.set()
        return nullcontext()

    gate = Gate("there", Rates(concurrency=1))
    running = await gate.enter("lane", queued)
    assert not entered.is_set()
    waiting = asyncio.ensure_future(gate.enter("lane", queued))
    await entered.wait()
    gate.leave(running)
    gate.leave(await waiting)


async def test_a_rate_lets_calls_through_by_itself() -> None:
    """Calls beyond the rate go when the time has come, though no other call ends."""
    gate = Gate("there", Rates(requests_per_minute=1200))
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with asyncio.timeout(20):
        for _ in range(70):
            await _enter(gate)
    assert loop.time() - begun > 0.4


def test_loops_in_many_threads_share_a_gate() -> None:
    """Calls of several event loops in threads never exceed the limit together, and all get through."""
    gate = Gate("there", Rates(concurrency=2))
    lock, most, running, through = threading.Lock(), 0, 0, 0

    async def call(lane: int) -> None:
        nonlocal most, running, through
        entered = await _enter(gate, lane)
        with lock:
            running += 1
            most = max(most, running)
        await asyncio.sleep(0.001)
        with lock:
            running -= 1
            through += 1
        gate.leave(entered)

    async def session(lane: int) -> None:
        await asyncio.gather(*(call(lane) for _ in range(40)))

    threads = [threading.Thread(target=lambda lane=lane: asyncio.run(session(lane))) for lane in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (most, through, running) == (2, 160, 0)


def test_a_loop_that_ended_holds_up_nobody() -> None:
    """Calls whose loop was closed under them are passed over, and what wakes the rest is not theirs."""
    gate = Gate("there", Rates(requests_per_minute=600))
    loop = asyncio.new_event_loop()

    async def fill() -> None:
        for _ in range(30):
            await _enter(gate)

    loop.run_until_complete(fill())
    stale = loop.create_task(_enter(gate, "gone"))
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()

    async def go() -> None:
        async with asyncio.timeout(10):
            gate.leave(await _enter(gate, "here"))

    asyncio.run(go())
    stale._log_destroy_pending = False  # type: ignore[attr-defined]
    stale.get_coro().close()


async def test_the_strictest_limits_in_use_hold() -> None:
    """Of several runs' limits the lowest counts while its run lasts."""
    gate = Gate("there", Rates(concurrency=5))
    with gate.limited(Rates(concurrency=1)):
        running = await _enter(gate)
        (waiting,) = await _waiting(gate, 2)
        assert not waiting.done()
    async with asyncio.timeout(5):
        gate.leave(await waiting)
    gate.leave(running)


async def test_a_wish_to_wait_is_kept_by_all_calls() -> None:
    """After a 429 with `Retry-After` no call goes before the time is over, whichever session it is of."""
    gate = Gate("there")
    loop = asyncio.get_running_loop()
    gate.leave(await _enter(gate, 1), error=RateLimited("slow", retry_after=0.3))
    begun = loop.time()
    async with asyncio.timeout(10):
        for task in await _waiting(gate, *range(20)):
            gate.leave(await task)
    assert loop.time() - begun > 0.29


async def test_a_wish_past_all_patience_fails_at_once() -> None:
    """Where the provider asks for more time than a call has, it fails at once with that wish, waiting or new."""
    gate = Gate("there", Rates(concurrency=1))
    running = await _enter(gate)
    waiting = asyncio.ensure_future(_enter(gate, patience=60.0))
    await asyncio.sleep(0)
    gate.leave(running, error=RateLimited("later", retry_after=300.0))
    with pytest.raises(RateLimited, match="there asked for 300 s") as caught:
        await waiting
    assert caught.value.retry_after == pytest.approx(300, abs=5)
    with pytest.raises(RateLimited):
        await _enter(gate, patience=60.0)


async def test_a_senseless_wish_is_cut() -> None:
    """A provider that asks for a year is asked again after ten minutes."""
    clock = Clock()
    gate = Gate("there", clock=clock)
    gate.leave(await _enter(gate), error=RateLimited("never", retry_after=3e7))
    with pytest.raises(RateLimited):
        await _enter(gate, patience=60.0)
    clock.now += LONGEST_PAUSE
    gate.leave(await _enter(gate, patience=60.0))


async def _fail(gate: Gate, count: int) -> None:
    for _ in range(count):
        gate.leave(await _enter(gate), error=ModelUnreachable("refused"))


async def _down(gate: Gate, clock: Clock) -> None:
    await _fail(gate, FAILURES - 1)
    clock.now += SPAN
    await _fail(gate, 1)


async def test_what_cannot_be_reached_is_let_be() -> None:
    """After a run of failed connections calls fail at once, naming the address and when it is tried again."""
    clock = Clock()
    gate = Gate("host:80", clock=clock)
    await _down(gate, clock)
    with pytest.raises(ModelUnreachable, match=r"host:80 in 5 attempts.*again in 10 s.*refused") as caught:
        await _enter(gate)
    assert caught.value.given_up


async def test_a_short_blip_is_survived() -> None:
    """Many connections that break at the same moment, as when a server restarts, are no reason to give up."""
    gate = Gate("host:80", clock=Clock())
    await _fail(gate, 100)
    gate.leave(await _enter(gate))


async def test_one_call_tries_whether_it_is_back() -> None:
    """After the rest one call goes and the others fail at once; if it is answered all go, if not the rest doubles."""
    clock = Clock()
    gate = Gate("host:80", clock=clock)
    await _down(gate, clock)
    rest = FIRST_REST
    for _ in range(5):
        clock.now += rest - 0.5
        with pytest.raises(ModelUnreachable):
            await _enter(gate)
        clock.now += 0.5
        trial = await _enter(gate)
        with pytest.raises(ModelUnreachable, match="by one call just now"):
            await _enter(gate)
        gate.leave(trial, error=ModelUnreachable("still"))
        rest = min(LONGEST_REST, rest * 2)
    clock.now += rest
    trial = await _enter(gate)
    gate.leave(trial, error=ModelRejected("it speaks"))
    calls = [await _enter(gate) for _ in range(3)]
    for call in calls:
        gate.leave(call)


async def test_a_trial_that_tells_nothing_is_repeated() -> None:
    """A trial that was cancelled, or timed out, leaves the next call to try."""
    clock = Clock()
    gate = Gate("host:80", clock=clock)
    await _down(gate, clock)
    clock.now += FIRST_REST
    for error in (asyncio.CancelledError(), ModelTimeout("late")):
        gate.leave(await _enter(gate), error=error)
    gate.leave(await _enter(gate))


async def test_those_that_wait_fail_with_it() -> None:
    """Calls that wait for their turn when the provider is given up fail at once too."""
    clock = Clock()
    gate = Gate("host:80", Rates(concurrency=1), clock=clock)
    await _fail(gate, FAILURES)
    running = await _enter(gate)
    waiting = await _waiting(gate, 1, 2, 3)
    clock.now += SPAN
    gate.leave(running, error=ModelUnreachable("refused"))
    for task in waiting:
        with pytest.raises(ModelUnreachable):
            await task


@pytest.mark.parametrize("error", [ModelUnavailable("500"), ModelRejected("400"), RateLimited("429"), None])
def test_any_reply_shows_that_it_can_be_reached(error: ModelError | None) -> None:
    """Only failed connections count: a reply in between, of whatever status, begins the count anew."""

    async def run() -> None:
        clock = Clock()
        gate = Gate("host:80", clock=clock)
        for _ in range(5):
            await _fail(gate, FAILURES - 1)
            clock.now += SPAN
            gate.leave(await _enter(gate), error=error)
        await _enter(gate)

    asyncio.run(run())


def test_a_breaker_forgets_its_rests() -> None:
    """Once the server has answered, the next rest is a short one again."""
    breaker = Breaker("x")
    for start in (0.0, 1000.0):
        for number in range(FAILURES):
            breaker.failed(start + number * SPAN, "no", trial=False)
        refusal = breaker.refusal(start + (FAILURES - 1) * SPAN)
        assert "in 10 s" in str(refusal)
        breaker.answered()
        assert breaker.refusal(start) is None


async def test_what_was_given_up_is_not_repeated() -> None:
    """A call to a provider that is down is not repeated with growing waits: it fails in no time."""
    clock = Clock()
    gate = Gate("host:80", clock=clock)
    await _down(gate, clock)
    listed = ListedModel()
    model = Retrying(Gated(listed, gate, "lane", patience=60), RetryPolicy())
    async with asyncio.timeout(0.4):
        with pytest.raises(ModelUnreachable):
            await model.complete(ASK)
    assert listed.calls == 0


@pytest.mark.parametrize("make", [lambda: "ok", lambda: ModelUnavailable("500"), lambda: 30.0])
async def test_a_wrapped_model_gives_its_room_back(make: Callable[[], Any]) -> None:
    """However a call ends, its room is free again."""
    gate = Gate("there", Rates(concurrency=1, tokens_per_minute=10**9))
    model = Gated(ListedModel(make(), "x", "ok"), gate, "lane", patience=math.inf)
    call = asyncio.ensure_future(model.complete(ASK))
    await asyncio.sleep(0.01)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    async with asyncio.timeout(5):
        gate.leave(await _enter(gate))
