"""What all benchmarks share: samples taken in turn, rows, and the table they make."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table

Measure = Callable[[], Awaitable[float]]
Unit = Literal["ms", "MiB"]

SCALE: dict[Unit, float] = {"ms": 1e3, "MiB": 1 / 2**20}
"""From seconds or bytes, in which everything is measured, to what is shown."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Figures of one thing, in seconds or bytes."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.values)

    def __add__(self, other: Samples) -> Samples:
        """Add the figures pair by pair, as taken in the same rounds."""
        return Samples(tuple(a + b for a, b in zip(self.values, other.values, strict=True)))

    def __sub__(self, other: Samples) -> Samples:
        """Subtract the figures pair by pair, as taken in the same rounds."""
        return Samples(tuple(a - b for a, b in zip(self.values, other.values, strict=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measured thing, and the one it is held against.

    `compare` says how: by the ratio of the medians, or by their difference. `target` is what that may be at most;
    a row without one is there to explain the others.
    """

    name: str
    value: Samples
    unit: Unit = "ms"
    baseline: Samples | None = None
    against: str = ""
    compare: Literal["ratio", "difference"] = "ratio"
    target: float | None = None

    @property
    def figure(self) -> float | None:
        """The ratio, or the difference in seconds or bytes."""
        if self.baseline is None:
            return None
        if self.compare == "ratio":
            return self.value.median / self.baseline.median
        return self.value.median - self.baseline.median

    def as_json(self) -> dict[str, object]:
        """Return the row for other programs, in seconds or bytes."""
        return {
            "name": self.name,
            "median": self.value.median,
            "min": min(self.value.values),
            "max": max(self.value.values),
            "samples": len(self.value.values),
            "against": self.against or None,
            "baseline": self.baseline and self.baseline.median,
            "compare": self.compare if self.baseline else None,
            "figure": self.figure,
            "target": self.target,
        }


async def in_turn(measures: Mapping[str, Measure], rounds: int, *, warm_up: int = 1) -> dict[str, Samples]:
    """Take every measure once a round, in order, so that what slows the machine down slows all of them alike.

    The first `warm_up` rounds are not counted. What is in memory after them is taken from the garbage collector, as a
    full collection would stop one measure or another for 0.2 s.
    """
    taken: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(-warm_up, rounds):
        if number == 0:
            gc.collect()
            gc.freeze()
        for name, measure in measures.items():
            seconds = await measure()
            if number >= 0:
                taken[name].append(seconds)
    return {name: Samples(tuple(values)) for name, values in taken.items()}


def show(title: str, rows: Sequence[Row], console: Console) -> None:
    """Print rows as a table: medians, with the least and the greatest figure behind them."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("measured")
    table.add_column("median", justify="right")
    table.add_column("min - max", justify="right", style="dim")
    table.add_column("baseline", justify="right")
    table.add_column("figure", justify="right")
    table.add_column("target", justify="right")
    for row in rows:
        scale = SCALE[row.unit]
        least, most = min(row.value.values) * scale, max(row.value.values) * scale
        table.add_row(
            row.name,
            f"{_number(row.value.median * scale)} {row.unit}",
            f"{_number(least)} - {_number(most)}",
            f"{_number(row.baseline.median * scale)} {row.unit}  {row.against}" if row.baseline else "",
            _compared(row, row.figure),
            f"<= {_compared(row, row.target)}" if row.target is not None else "",
        )
    console.print(table)


def _compared(row: Row, figure: float | None) -> str:
    if figure is None:
        return ""
    return f"x {figure:.2f}" if row.compare == "ratio" else f"{figure * SCALE[row.unit]:+.2f} {row.unit}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}" if abs(value) >= 10 else f"{value:,.2f}"
