"""What the budgets of one run share: clock, prices, guesses, and the calls that wait for room."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlm_kernel.budget.call import Call
from rlm_kernel.budget.prices import Prices
from rlm_kernel.budget.reservation import Reservation
from rlm_kernel.budget.tokens import TokenRatio
from rlm_kernel.budget.warner import TIME, Warner
from rlm_kernel.errors import BudgetExceeded, RlmKernelError

if TYPE_CHECKING:
    from rlm_kernel.budget.account import Account


@dataclass(frozen=True, slots=True, eq=False)
class Waiter:
    """A call that waits."""

    node: Account
    call: Call
    granted: asyncio.Future[Reservation]


class Queue:
    """The calls that wait until others in flight are settled, first come first served.

    One that is blocked at a node holds up those behind it that need the same node, so that no call is overtaken for
    ever; a child's share that is in use holds up nobody outside of that child.
    """

    def __init__(self) -> None:
        self._waiting: deque[Waiter] = deque()
        self._advancing = self._again = False

    async def admit(self, node: Account, call: Call) -> Reservation:
        """Return a reservation as soon as there is room; a cancel gives back what it had. Raise `BudgetExceeded`."""
        if not self._waiting and isinstance(got := node.attempt(call), Reservation):
            return got
        waiter = Waiter(node, call, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        self.advance()
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            if not waiter.granted.cancelled() and waiter.granted.exception() is None:
                waiter.granted.result().release()
            self.advance()
            raise

    def advance(self) -> None:
        """Let those go on that can, after room was made or a limit was hit."""
        if self._advancing:
            self._again = True
            return
        self._advancing = self._again = True
        try:
            while self._again:
                self._again = False
                self._pass()
        finally:
            self._advancing = False

    def _pass(self) -> None:
        blocked: set[Account] = set()
        passed: list[Waiter] = []
        while self._waiting:
            waiter = self._waiting[0]
            line = waiter.node.line
            if line[-1] in blocked:
                break
            self._waiting.popleft()
            if waiter.granted.done():
                continue
            if not blocked.isdisjoint(line):
                passed.append(waiter)
                continue
            try:
                got = waiter.node.attempt(waiter.call)
            except RlmKernelError as error:
                waiter.granted.set_exception(error)
                continue
            if isinstance(got, Reservation):
                waiter.granted.set_result(got)
            else:
                passed.append(waiter)
                blocked.update(got)
        self._waiting.extendleft(reversed(passed))


class Tree:
    """What the budgets of one run share.

    `refused` counts the sub-calls that were refused since a call was made. `keeps_back`: whether a part of each limit
    is for the request for the best answer.
    """

    root: Account

    def __init__(self, clock: Callable[[], float], seconds: float | None, prices: Mapping[str, Prices | None]) -> None:
        self.clock = clock
        self.prices = prices
        self.queue = Queue()
        self.watches: list[Callable[[], None]] = []
        self.warner: Warner | None = None
        self.refused = 0
        self.keeps_back = True
        self._ratios: dict[str, TokenRatio] = {}
        self._seconds = seconds
        self._worked = 0.0
        self._since: float | None = clock()

    @property
    def elapsed(self) -> float:
        """Seconds that the run has worked."""
        return self._worked + (0.0 if self._since is None else self.clock() - self._since)

    def resume(self) -> None:
        """Let time count, from now on if it did not."""
        if self._since is None:
            self._since = self.clock()

    def pause(self) -> None:
        """Let time not count."""
        self._worked, self._since = self.elapsed, None

    def add_time(self, seconds: float) -> None:
        """Count time from before."""
        self._worked += seconds

    @property
    def left(self) -> float | None:
        """Seconds that are left, 0 at least; None without a limit."""
        return None if self._seconds is None else max(0.0, self._seconds - self.elapsed)

    def ratio(self, model: str) -> TokenRatio:
        """Return what is known of the guesses for `model`."""
        return self._ratios.setdefault(model, TokenRatio())

    def look_at_clock(self) -> float | None:
        """Spend the budget if its time is over; return the seconds until that, or until a warning of it is due."""
        left = self.left
        if left is None:
            return None
        if not left:
            self.time_over()
        until_warning = self.note(TIME, self.elapsed)
        return left if until_warning is None else min(left, until_warning)

    def time_over(self) -> BudgetExceeded:
        """Spend the budget for its time."""
        return self.root.spend(TIME, self.time_in_words, self.elapsed, self._seconds or 0.0)

    @property
    def time_in_words(self) -> str:
        """The limit of the time, in words."""
        return f"{self._seconds or 0.0:g} s"

    def note(self, setting: str, value: float) -> float | None:
        """See `Warner.note`."""
        return self.warner.note(setting, value) if self.warner is not None else None

    def warn(self) -> None:
        """Warn of what is passed now."""
        if self.warner is not None:
            self.warner.look(self.root.ledger.settled)
