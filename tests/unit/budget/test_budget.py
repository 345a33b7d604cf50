"""A budget: reserved before a call, settled after it, kept over the whole tree."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn

import pytest

from rlm_kernel.budget import Budget, Call, Limits, Prices, Warnings, guess_tokens
from rlm_kernel.errors import BudgetExceeded
from rlm_kernel.events import BudgetSpent, BudgetWarning
from rlm_kernel.types import Usage
from tests.support.fakes import ListSink

DOLLAR = 10**12
PRICES = {"m": Prices(0, (DOLLAR // 1000,), (DOLLAR // 100,))}
"""A tenth of a cent for an input token, a cent for an output token."""


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def ask(input_tokens: int = 100, output_tokens: int = 100, *, is_sub: bool = True, closing: bool = False) -> Call:
    """Return a call whose input is known."""
    return Call("m", input_tokens, input_tokens, output_tokens, PRICES["m"], is_sub, closing)


def used(input_tokens: int, output_tokens: int, cost: float | None = 0.0) -> Usage:
    """Return what a call used."""
    return Usage(calls=1, input_tokens=input_tokens, output_tokens=output_tokens, cost_usd=cost)


def spend(budget: Budget) -> NoReturn:
    """Make calls until one is refused."""
    while True:
        budget.reserve(ask(500, 500)).keep()


def test_a_call_is_reserved_and_settled() -> None:
    """A reservation takes the estimate from what remains; settling it counts what was used and no more."""
    budget = Budget(Limits(total_tokens=10_000, cost=10.0), prices=PRICES)
    reservation = budget.reserve(ask())
    assert reservation.output_tokens == 100
    assert budget.remaining().total_tokens == 9_800
    assert budget.remaining().cost_usd == pytest.approx(10 - 0.1 - 1)
    reservation.settle(used(90, 20, 0.3))
    assert budget.used().total_tokens == 110
    assert budget.remaining().total_tokens == 9_890
    assert budget.remaining().cost_usd == pytest.approx(9.7)


@pytest.mark.parametrize(
    ("end", "counted"),
    [
        (lambda r: r.release(), 0),
        (lambda r: r.keep(), 200),
        (lambda r: (r.settle(used(1, 1)), r.keep(), r.release()), 2),
    ],
)
def test_a_reservation_ends_once(end: Callable[[object], object], counted: int) -> None:
    """What is released counts nothing, what is kept counts the estimate, and only the first end counts."""
    budget = Budget(Limits(total_tokens=10_000))
    end(budget.reserve(ask()))
    assert budget.used().total_tokens == counted
    assert budget.remaining().total_tokens == 10_000 - counted


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        (Limits(input_tokens=250), "max_input_tokens"),
        (Limits(output_tokens=250), "max_output_tokens"),
        (Limits(total_tokens=450), "max_total_tokens"),
        (Limits(cost=2.5), "max_cost"),
    ],
)
def test_each_limit_is_named(limits: Limits, name: str) -> None:
    """The call that does not fit any more names the setting, and how to allow more; the budget is spent then."""
    sink = ListSink()
    budget = Budget(limits, sink=sink, warnings=Warnings(share=None))
    for _ in range(2):
        budget.reserve(ask()).keep()
    with pytest.raises(BudgetExceeded, match=f"--{name.replace('_', '-')}") as caught:
        budget.reserve(ask(is_sub=False))
    assert caught.value.limit == name
    assert budget.spent == caught.value.reason
    assert [event.limit for event in sink.events if isinstance(event, BudgetSpent)] == [name]


def test_the_maximum_output_shrinks_to_what_is_left() -> None:
    """With nothing in flight a call gets what there is, and with room for no reply it is refused."""
    budget = Budget(Limits(total_tokens=1_000))
    assert budget.reserve(ask(100, 5_000)).output_tokens == 900
    budget = Budget(Limits(total_tokens=300))
    with pytest.raises(BudgetExceeded):
        budget.reserve(ask(100, 5_000))


def test_one_call_that_is_too_large_spends_nothing() -> None:
    """A sub-call that does not fit leaves the budget to smaller ones; a hundred in a row do not."""
    budget = Budget(Limits(total_tokens=1_000))
    for _ in range(99):
        with pytest.raises(BudgetExceeded, match="too large for what is left"):
            budget.reserve(ask(2_000))
    budget.reserve(ask()).release()
    for _ in range(99):
        with pytest.raises(BudgetExceeded):
            budget.reserve(ask(2_000))
    with pytest.raises(BudgetExceeded, match="is reached"):
        budget.reserve(ask(2_000))
    with pytest.raises(BudgetExceeded):
        budget.reserve(ask(1, 1))


async def test_a_call_waits_for_calls_in_flight() -> None:
    """Where a settlement may leave room the call waits, gets its full output, and nobody behind it overtakes it."""
    budget = Budget(Limits(total_tokens=1_000))
    first = await budget.admit(ask(100, 700))
    with pytest.raises(BudgetExceeded, match="in flight"):
        budget.reserve(ask(100, 700))
    order: list[int] = []

    async def late(number: int, call: Call) -> None:
        reservation = await budget.admit(call)
        assert reservation.output_tokens == call.output_tokens
        order.append(number)
        reservation.settle(used(10, 10))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(late(1, ask(100, 700)))
        tasks.create_task(late(2, ask(10, 10)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert order == []
        first.settle(used(50, 50))
    assert order == [1, 2]
    assert budget.used().total_tokens == 140


async def test_a_call_that_no_settlement_can_admit_is_refused_at_once() -> None:
    """A call larger than all that could come free does not wait for it."""
    budget = Budget(Limits(total_tokens=1_000))
    await budget.admit(ask(100, 700))
    with pytest.raises(BudgetExceeded):
        await budget.admit(ask(2_000, 100))


async def test_waiting_calls_end_when_the_budget_is_spent_or_they_are_cancelled() -> None:
    """A spent budget refuses those that wait; a cancelled one leaves nothing reserved."""
    budget = Budget(Limits(total_tokens=1_000, subcalls=1))
    first = await budget.admit(ask(100, 700))
    waiting = asyncio.create_task(budget.admit(ask(100, 700)))
    cancelled = asyncio.create_task(budget.admit(ask(100, 700)))
    await asyncio.sleep(0)
    cancelled.cancel()
    budget.take_subcall()
    with pytest.raises(BudgetExceeded, match="1 sub-calls"):
        budget.take_subcall()
    with pytest.raises(BudgetExceeded, match="sub-calls"):
        await waiting
    first.release()
    assert budget.remaining().total_tokens == 1_000
    assert cancelled.cancelled() or (await asyncio.wait([cancelled]))[0]


def test_a_child_has_a_share_and_counts_above() -> None:
    """A child that uses up its share is refused, its parent goes on; what it used counts there."""
    sink = ListSink()
    budget = Budget(Limits(total_tokens=10_000, subcalls=10, cost=100.0), prices=PRICES)
    child = budget.child(0.1, sink=sink)
    assert (child.remaining().total_tokens, child.remaining().subcalls) == (1_000, 1)
    child.take_subcall()
    child.reserve(ask(400, 550)).keep()
    with pytest.raises(BudgetExceeded, match="share of 1,000 tokens"):
        child.reserve(ask(400, 500))
    assert child.spent is not None
    assert budget.spent is None
    assert budget.used().total_tokens == 950
    assert budget.used().subcalls == 1
    assert len(sink.events) == 1
    budget.reserve(ask(400, 500)).keep()


def test_what_the_root_has_spent_no_descendant_may_use() -> None:
    """A child, and its child, stop with the budget above them."""
    budget = Budget(Limits(subcalls=2))
    grandchild = budget.child().child()
    assert grandchild.depth == 2
    for _ in range(2):
        budget.take_subcall()
    with pytest.raises(BudgetExceeded, match="2 sub-calls"):
        grandchild.take_subcall()
    assert grandchild.spent == budget.spent == "The limit of 2 sub-calls is reached."
    with pytest.raises(BudgetExceeded):
        budget.child()


def test_a_part_is_kept_back_for_the_best_answer() -> None:
    """Ordinary calls leave room for the session's last request, which alone may use it, once the rest is spent."""
    budget = Budget(Limits(total_tokens=20_000))
    budget.reserve(ask(2_000, 1_000, is_sub=False)).settle(used(2_000, 500))
    with pytest.raises(BudgetExceeded):
        spend(budget)
    with pytest.raises(BudgetExceeded):
        budget.reserve(ask(2_500, 1_000, is_sub=False))
    with budget.closing():
        last = budget.call("m", 2_500, 1_000, is_sub=False)
        assert last.closing
        budget.reserve(last).settle(used(2_500, 1_000))
        assert not budget.call("m", 2_500, 1_000).closing
    assert (budget.used().total_tokens or 0) <= 20_000


def test_the_time_is_a_limit() -> None:
    """When the time is over calls are refused; the best answer may still be asked for."""
    clock, sink = Clock(), ListSink()
    budget = Budget(Limits(seconds=60), clock=clock, sink=sink)
    budget.child()
    clock.now += 50
    assert budget.remaining().seconds == 10
    budget.reserve(ask()).release()
    assert [event.limit for event in sink.events if isinstance(event, BudgetWarning)] == ["run_timeout"]
    clock.now += 10
    assert budget.spent == "The limit of 60 s is reached."
    with pytest.raises(BudgetExceeded, match="--run-timeout"):
        budget.reserve(ask())
    with budget.closing():
        budget.reserve(budget.call("m", 10, is_sub=False)).release()
    assert isinstance(sink.events[-1], BudgetSpent)


def test_asking_changes_nothing() -> None:
    """Who asks whether the budget is spent, from wherever and after the run too, is told, and records nothing."""
    clock, sink = Clock(), ListSink()
    budget = Budget(Limits(seconds=60), clock=clock, sink=sink)
    clock.now += 50
    before = budget.spent
    assert before is None
    clock.now += 10
    assert budget.spent == "The limit of 60 s is reached."
    assert sink.events == []
    assert budget.look() == "The limit of 60 s is reached."
    assert BudgetSpent in map(type, sink.events)


def test_warnings_come_once() -> None:
    """A share of each limit, and what most earlier runs used, are told when they are passed, and only then."""
    sink = ListSink()
    warnings = Warnings(share=0.5, percentile=90, usual_tokens=300)
    budget = Budget(Limits(total_tokens=1_000, subcalls=2, turns=10), sink=sink, warnings=warnings)
    for _ in range(4):
        budget.reserve(ask(100, 80)).keep()
    budget.take_subcall()
    for turn in range(1, 9):
        budget.note_turn(turn)
    told = [(event.limit, event.kind, event.used) for event in sink.events if isinstance(event, BudgetWarning)]
    assert told == [
        ("max_total_tokens", "percentile", 360),
        ("max_total_tokens", "share", 540),
        ("max_subcalls", "share", 1),
        ("max_turns", "share", 5),
    ]
    assert [event.message for event in sink.events if isinstance(event, BudgetWarning)][:2] == [
        "this run has used more than 90 % of the earlier ones did: 300 tokens",
        "50% of 1,000 tokens are used",
    ]


def test_an_estimate_says_what_a_call_may_take() -> None:
    """Before a call its tokens and cost can be had, whether it fits, and no price where none is known."""
    budget = Budget(Limits(cost=1.0, reply_tokens=10), prices={**PRICES, "dear": None})
    small = budget.estimate("How many?", "m")
    assert small.fits
    assert small.output_tokens == 10
    assert small.cost_usd == pytest.approx(small.input_tokens * 0.001 + 0.1)
    assert not budget.estimate("word " * 10_000, "m").fits
    assert budget.estimate("How many?", "dear").cost_usd is None


def test_guesses_learn_from_replies() -> None:
    """What replies say of their input corrects later estimates, up at once and down to no less than half."""
    budget = Budget(Limits(total_tokens=10**9))
    assert budget.call("m", 1_000).input_tokens == 1_001
    budget.reserve(budget.call("m", 1_000)).settle(used(2_000, 10))
    assert budget.call("m", 1_000).input_tokens == 2_201
    assert budget.call("other", 1_000).input_tokens == 1_001
    for _ in range(40):
        budget.reserve(budget.call("m", 1_000)).settle(used(10, 10))
    assert budget.call("m", 1_000).input_tokens == 501


@pytest.mark.parametrize(
    ("text", "least"),
    [
        ("the quick brown fox jumps over the lazy dog " * 100, 900),
        ("Быстрая лиса " * 100, 600),
        ("敏捷的狐狸" * 100, 550),
    ],
)
def test_a_guess_is_rather_too_high(text: str, least: int) -> None:
    """Prose in several scripts is guessed at no fewer tokens than today's tokenizers make of it."""
    assert least <= guess_tokens([text]) <= 4 * least


def test_rates_are_never_below_the_price() -> None:
    """Prices that rise with a call's size count from the step before it on, and cache writes as the dearest input."""

    def tariff(usage: Usage) -> float:
        per_input = 2e-6 if usage.input_tokens > 200_000 else 1e-6
        extra = usage.cache_write_tokens * per_input / 4
        return 0.001 + usage.input_tokens * per_input + extra + usage.output_tokens * 5e-6

    prices = Prices.of(tariff)
    assert prices is not None
    for size in (1, 10, 1_000, 120_000, 199_999, 200_001, 5_000_000):
        call = Call("m", size, size, 1_000, prices)
        real = tariff(Usage(input_tokens=size, output_tokens=1_000, cache_write_tokens=size))
        assert real * (1 - 1e-9) <= call.cost(1_000) / DOLLAR <= 2.1 * real
    assert Prices.of(lambda usage: None) is None
    assert Prices.of(lambda usage: 0.0) == Prices(0, (0,) * 10, (0,) * 10)


async def test_a_cell_has_to_end_with_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """A running cell is interrupted a while after its budget is spent, and at once where output or time is over."""
    monkeypatch.setattr("rlm_kernel.budget.watch.CELL_GRACE", 0.05)
    budget = Budget(Limits(subcalls=0, output_size=10))
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    with budget.child().cell(ended.set_result):
        with pytest.raises(BudgetExceeded):
            budget.take_subcall()
        assert not ended.done()
        assert await asyncio.wait_for(ended, 5) == "budget"
    told: list[str] = []
    noisy = Budget(Limits(output_size=10))
    with noisy.cell(told.append):
        noisy.add_output(9)
        assert told == []
        noisy.add_output(1)
        assert told == ["budget"]
    late: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    timed = Budget(Limits(seconds=0.05))
    with timed.cell(late.set_result):
        assert await asyncio.wait_for(late, 5) == "budget"
    with timed.cell(told.append):
        pass
    await asyncio.sleep(0)
    assert told == ["budget"]


async def test_what_takes_longer_than_the_time_is_cancelled() -> None:
    """A block that is bounded in time ends with the limit's name; that for the best answer has some more."""
    budget = Budget(Limits(seconds=0.02))
    with pytest.raises(BudgetExceeded, match="--run-timeout"):
        async with budget.in_time():
            await asyncio.Event().wait()
    with budget.closing():
        async with budget.in_time():
            await asyncio.sleep(0)
    async with Budget().in_time():
        await asyncio.sleep(0)
