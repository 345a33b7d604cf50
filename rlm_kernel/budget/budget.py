"""`Budget`: what a run, or a child session of it, may use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import replace

from rlm_kernel.budget.account import Account, reached
from rlm_kernel.budget.amounts import COST, INPUT, OUTPUT, SIZE, SUBCALLS, TOTAL, UNITS_PER_DOLLAR, Amounts
from rlm_kernel.budget.call import DEFAULT_REPLY_TOKENS, Call, Estimate
from rlm_kernel.budget.limits import Limits, Warnings
from rlm_kernel.budget.prices import Prices
from rlm_kernel.budget.reservation import Reservation
from rlm_kernel.budget.tokens import guess_tokens
from rlm_kernel.budget.tree import Tree
from rlm_kernel.budget.warner import Warner
from rlm_kernel.budget.watch import CellWatch, Interrupt
from rlm_kernel.errors import BudgetExceeded
from rlm_kernel.events import BudgetSpent, EventSink
from rlm_kernel.types import Usage

MOST = 10**15
"""Units of anything that an earlier part of a run may be said to have used."""


class Budget:
    """What a run may use, root calls, sub-calls and child sessions together.

    A call is made with a reservation: its input as estimated and a maximum output, which the provider is sent. So what
    is used passes a limit at most by what the calls in flight were underestimated. Where others in flight hold the
    room, a call waits for them; where they don't, its maximum output shrinks to what there is, and with no room for a
    reply it is refused with `BudgetExceeded`. A part of each limit is kept back for a session's request for its
    best answer. Use in one event loop; `spent`, `used`, `remaining` and `estimate` change nothing, and may be asked
    from any thread and at any time.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        prices: Mapping[str, Prices | None] | None = None,
        sink: EventSink | None = None,
        warnings: Warnings | None = None,
        clock: Callable[[], float] = time.monotonic,
        keeps_back: bool = True,
    ) -> None:
        """Open the budget of a run; its time begins now. `prices` are the models' by name, None for unknown.

        Without `keeps_back` nothing is kept for the best answer, as in a run that is never asked for one.
        """
        limits = limits or Limits()
        tree = Tree(clock, limits.seconds, dict(prices or {}))
        self._account = Account(limits, tree, None, sink)
        tree.root, tree.keeps_back = self._account, keeps_back
        if sink is not None:
            tree.warner = Warner(limits, warnings or Warnings(), sink)
        self._closing = False

    def child(self, share: float = 1.0, *, sink: EventSink | None = None) -> Budget:
        """Return the budget of a child session: `share` (above 0, at most 1) of what is left now, and all of the time.

        Nothing is set aside for it: what others use meanwhile is gone for it too. What it uses counts here, and when
        it is spent this budget is not. `BudgetSpent` goes to `sink`. Raise `BudgetExceeded` if this budget is spent.
        """
        self._account.check()
        part = [None if room is None else int(room * share) for room in self._account.rooms()]
        cost = part[COST]
        limits = replace(
            self.limits,
            subcalls=part[SUBCALLS],
            input_tokens=part[INPUT],
            output_tokens=part[OUTPUT],
            total_tokens=part[TOTAL],
            cost=None if cost is None else cost / UNITS_PER_DOLLAR,
            output_size=part[SIZE],
        )
        return self._of(Account(limits, self._account.tree, self._account, sink))

    @classmethod
    def _of(cls, account: Account) -> Budget:
        budget = cls.__new__(cls)
        budget._account, budget._closing = account, False
        return budget

    @property
    def limits(self) -> Limits:
        """Its limits; a child's are its share as of its beginning."""
        return self._account.limits

    @property
    def depth(self) -> int:
        """How many budgets are above it."""
        return len(self._account.line) - 1

    @property
    def bounds_calls(self) -> bool:
        """Whether tokens or cost are limited, so that every request is to have a maximum output."""
        return self.limits.bounds_calls

    @property
    def spent(self) -> str | None:
        """Why no more calls are made, once a limit of this budget or of one above it was hit."""
        if (error := self._account.spent_by) is not None:
            return error.reason
        tree = self._account.tree
        return None if tree.left != 0 else reached(tree.time_in_words)

    def look(self) -> str | None:
        """Take note of the time, record what is due by it, and return `spent`; for the run's own event loop."""
        self._account.tree.look_at_clock()
        return self.spent

    def used(self) -> Amounts:
        """Return what was used so far, here and below; calls in flight do not count yet."""
        return Amounts.of(list(self._account.ledger.settled), self._account.tree.elapsed)

    def remaining(self) -> Amounts:
        """Return what ordinary calls may still use, here and in all budgets above.

        It is less than the limit by what calls in flight hold, and by what is kept back for the best answer.
        """
        return Amounts.of(self._account.rooms(), self._account.tree.left)

    def estimate(self, prompt: str, model: str, *, max_output_tokens: int | None = None) -> Estimate:
        """Return what a sub-call of `model` (`provider:name`) with `prompt` would use at most."""
        call = self.call(model, guess_tokens([prompt]), max_output_tokens)
        fits = self._account.spent_by is None and self._account.most_output(call)[0] >= call.least_output
        cost = None if call.prices is None else call.cost(call.output_tokens) / UNITS_PER_DOLLAR
        return Estimate(input_tokens=call.input_tokens, output_tokens=call.output_tokens, cost_usd=cost, fits=fits)

    def call(self, model: str, guess: int, output_tokens: int | None = None, *, is_sub: bool = True) -> Call:
        """Return a call of `model` whose input was guessed at `guess` tokens, its estimate corrected by experience."""
        tree = self._account.tree
        return Call(
            model=model,
            guess=guess,
            input_tokens=tree.ratio(model).corrected(guess),
            output_tokens=output_tokens or self.limits.reply_tokens or DEFAULT_REPLY_TOKENS,
            prices=tree.prices.get(model),
            is_sub=is_sub,
            closing=self._closing and not is_sub,
        )

    def reserve(self, call: Call) -> Reservation:
        """Reserve room for `call` at once, here and in all above, or raise `BudgetExceeded`."""
        got = self._account.attempt(call)
        if isinstance(got, Reservation):
            return got
        raise BudgetExceeded("Calls in flight hold what is left.", way_out="Wait for them.")

    async def admit(self, call: Call) -> Reservation:
        """Reserve room for `call` as soon as calls in flight leave it. Raise `BudgetExceeded` if they can't."""
        return await self._account.tree.queue.admit(self._account, call)

    def take_subcall(self) -> None:
        """Count a sub-call, which is not given back if it fails. Raise `BudgetExceeded` if there is none left."""
        self._account.check()
        for node in self._account.line:
            if node.ledger.room(SUBCALLS) == 0:
                raise node.spend_dimension(SUBCALLS)
        self._count(SUBCALLS, 1)

    def charge(self, usage: Mapping[str, Usage], *, subcalls: int = 0, seconds: float = 0.0) -> None:
        """Count what was used before this budget was opened: tokens and cost by model, sub-calls, time.

        A cost that is not known counts as nothing.
        """
        inputs = sum(_bounded(used.input_tokens) for used in usage.values())
        outputs = sum(_bounded(used.output_tokens) for used in usage.values())
        cost = sum(round(_bounded(used.cost_usd or 0.0) * UNITS_PER_DOLLAR) for used in usage.values())
        amounts = {SUBCALLS: _bounded(subcalls), INPUT: inputs, OUTPUT: outputs, TOTAL: inputs + outputs, COST: cost}
        for index, amount in amounts.items():
            self._count(index, int(amount))
        self._account.tree.add_time(_bounded(seconds))

    def add_output(self, size: int) -> None:
        """Count bytes of cells' output; as soon as they reach the limit, the budget is spent."""
        self._count(SIZE, size)
        for node in self._account.line:
            if node.ledger.room(SIZE) == 0:
                node.spend_dimension(SIZE)

    def spend(self, spent: BudgetSpent) -> None:
        """Be spent as it was when this was recorded."""
        self._account.spend_for(spent)

    def note_turn(self, turn: int) -> None:
        """Take note of the turn of the run's own session, for a warning."""
        if self.depth == 0:
            self._account.tree.note("max_turns", turn)

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Let the session's own requests use what is kept back: they are for its best answer."""
        self._closing = True
        try:
            yield
        finally:
            self._closing = False

    def check(self) -> None:
        """Raise `BudgetExceeded` if no more calls are made."""
        self._account.check()

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Count the block's time as the run's; after the first such block no other time counts.

        Cancel what still runs when the time for the best answer is over too. Raise `BudgetExceeded` then.
        """
        tree = self._account.tree
        tree.resume()
        try:
            async with self._within(None if tree.left is None else tree.left + self.limits.closing_seconds):
                yield
        finally:
            tree.pause()

    def in_time(self) -> AbstractAsyncContextManager[None]:
        """Cancel the block when the time is over, or, for the best answer, a while after. Raise `BudgetExceeded`."""
        left = self._account.tree.left
        if left is not None and self._closing:
            left += self.limits.closing_seconds
        return self._within(left)

    @asynccontextmanager
    async def _within(self, seconds: float | None) -> AsyncIterator[None]:
        timer = asyncio.timeout(seconds)
        try:
            async with timer:
                yield
        except TimeoutError:
            if not timer.expired():
                raise
            raise self._account.tree.time_over() from None

    @contextmanager
    def cell(self, interrupt: Interrupt) -> Iterator[None]:
        """While a cell runs in the block, have `interrupt("budget")` called when it has to end for it.

        That is a few seconds after the budget is spent, or at once if its time or its output is.
        """
        watch = CellWatch(self._account, interrupt)
        self._account.tree.watches.append(watch.look)
        try:
            watch.look()
            yield
        finally:
            self._account.tree.watches.remove(watch.look)
            watch.close()

    def _count(self, index: int, amount: int) -> None:
        for node in self._account.line:
            node.ledger.settled[index] += amount
        self._account.tree.warn()


def _bounded(amount: float) -> float:
    """Return an amount that a recording tells of, as one that can be."""
    return min(max(0, amount), MOST)  # in this order, as what is no number is not above 0
