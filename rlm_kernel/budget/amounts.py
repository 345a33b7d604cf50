"""The dimensions that a budget counts in, in whole units, so that what is added and taken away is exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SUBCALLS, INPUT, OUTPUT, TOTAL, COST, SIZE = range(6)
"""The dimensions, as indexes: calls, tokens (three), cost in units of 1e-12 dollars, bytes of cells' output."""

NAMES: Final = (
    "max_subcalls",
    "max_input_tokens",
    "max_output_tokens",
    "max_total_tokens",
    "max_cost",
    "max_output_size",
)
"""The settings that limit the dimensions."""

UNITS_PER_DOLLAR = 10**12
_WORDS = ("sub-calls", "input tokens", "output tokens", "tokens", "", "bytes of output")


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """How much of each thing: used, or left, where None means that there is no limit.

    `seconds` is wall time, `output_size` is in bytes.
    """

    subcalls: int | None
    input_tokens: int | None
    output_tokens: int | None
    total_tokens: int | None
    cost_usd: float | None
    output_size: int | None
    seconds: float | None

    @classmethod
    def of(cls, units: list[int | None], seconds: float | None) -> Amounts:
        """Return the amounts that the dimensions' `units` stand for."""
        cost = units[COST]
        return cls(
            subcalls=units[SUBCALLS],
            input_tokens=units[INPUT],
            output_tokens=units[OUTPUT],
            total_tokens=units[TOTAL],
            cost_usd=None if cost is None else cost / UNITS_PER_DOLLAR,
            output_size=units[SIZE],
            seconds=seconds,
        )


def described(dimension: int, units: int) -> str:
    """Return an amount in words, as `$0.50` or `2,000 sub-calls`."""
    if dimension == COST:
        dollars = units / UNITS_PER_DOLLAR
        return f"${dollars:.2f}" if dollars >= 0.1 or not dollars else f"${dollars:.4g}"
    return f"{units:,} {_WORDS[dimension]}"


def in_unit(dimension: int, units: float) -> float:
    """Return an amount in the unit that people use: dollars for the cost."""
    return units / UNITS_PER_DOLLAR if dimension == COST else units
