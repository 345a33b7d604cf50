"""Events of a run's budget."""

from __future__ import annotations

from typing import Literal

from rlm_kernel.events.base import Event


class BudgetWarning(Event, frozen=True, kw_only=True):
    """A share of a limit is passed, or what most earlier runs used; once for each of them.

    `limit` is the setting's name. `used` and `threshold` are in its unit: calls, tokens, US dollars, bytes, seconds.
    `allowed` is the limit, None for a comparison with earlier runs.
    """

    limit: str
    kind: Literal["share", "percentile"]
    used: float
    threshold: float
    allowed: float | None
    message: str


class BudgetSpent(Event, frozen=True, kw_only=True):
    """A limit is reached: no call is made any more but the one for the best answer. Fields as in `BudgetWarning`."""

    limit: str
    used: float
    allowed: float
    message: str
