"""What a run may use, and when a warning is due."""

from __future__ import annotations

from dataclasses import dataclass

from rlm_kernel.budget.amounts import UNITS_PER_DOLLAR

LEAST_CLOSING, MOST_CLOSING = 10.0, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a run may use; None is no limit.

    Sub-calls, tokens, cost (US dollars), `output_size` (bytes of cells' output) and `seconds` count over the whole
    tree: root calls, sub-calls and child sessions. The others hold for each session or reply: `turns`, `depth` (how
    deep sessions may start sessions), `cell_seconds`, `parallel_subcalls`, `reply_tokens`.
    """

    subcalls: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cost: float | None = None
    output_size: int | None = None
    seconds: float | None = None
    turns: int | None = None
    depth: int = 0
    cell_seconds: float | None = None
    parallel_subcalls: int | None = None
    reply_tokens: int | None = None

    @property
    def units(self) -> tuple[int | None, ...]:
        """The limits of the dimensions that a budget counts in."""
        cost = None if self.cost is None else round(self.cost * UNITS_PER_DOLLAR)
        return (self.subcalls, self.input_tokens, self.output_tokens, self.total_tokens, cost, self.output_size)

    @property
    def bounds_calls(self) -> bool:
        """Whether tokens or cost are limited, so that every request needs a maximum output."""
        return any(limit is not None for limit in self.units[1:5])

    @property
    def closing_seconds(self) -> float:
        """How long the best answer may take once the time is over: a tenth of it, 10 s at least and 60 s at most."""
        return min(MOST_CLOSING, max(LEAST_CLOSING, (self.seconds or 0) / 10))


@dataclass(frozen=True, slots=True, kw_only=True)
class Warnings:
    """When to warn: at a `share` of any limit, and where a run passes what `percentile` % of earlier runs used.

    `usual_cost` (US dollars) and `usual_tokens` are what these used; None is no such warning.
    """

    share: float | None = 0.8
    percentile: float | None = None
    usual_cost: float | None = None
    usual_tokens: int | None = None
