"""A running cell, and when it has to end for the budget's sake."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from rlm_kernel.budget.amounts import NAMES, SIZE

if TYPE_CHECKING:
    from rlm_kernel.budget.account import Account

Interrupt = Callable[[Literal["budget"]], None]

CELL_GRACE = 5.0
"""Seconds that a cell may go on once no more calls are made, to end by itself with what it has."""


class CellWatch:
    """Calls `interrupt` when a cell has to end; `look` is called when that may have changed."""

    def __init__(self, account: Account, interrupt: Interrupt) -> None:
        self._account = account
        self._interrupt = interrupt
        self._timer: asyncio.TimerHandle | None = None
        self._begun_spent = account.spent_by is not None
        self._due: float | None = None

    def look(self) -> None:
        """Interrupt the cell, or look again when it may be due."""
        tree = self._account.tree
        until_time_event = tree.look_at_clock()
        if (error := self._account.spent_by) is None:
            self._look_in(until_time_event)
            return
        if self._due is None:
            at_once = error.limit in {"run_timeout", NAMES[SIZE]} and not self._begun_spent
            self._due = tree.clock() + (0 if at_once else CELL_GRACE)
        left = self._due - tree.clock()
        if left <= 0:
            self.close()
            self._interrupt("budget")
        else:
            self._look_in(left)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_in(self, seconds: float | None) -> None:
        self.close()
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.look)
