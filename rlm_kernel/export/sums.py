"""What each turn took."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from rlm_kernel.export.told import dollars, duration
from rlm_kernel.types import Usage


@dataclass(slots=True)
class _Turn:
    question: int
    turn: int
    usage: Usage = field(default_factory=Usage)
    model_seconds: float = 0.0
    cells: int = 0
    cell_seconds: float = 0.0
    calls: int = 0

    def row(self) -> tuple[str, ...]:
        return (
            f"{self.question}",
            f"{self.turn}",
            duration(self.model_seconds),
            f"{self.cells:,}",
            duration(self.cell_seconds),
            f"{self.calls:,}",
            f"{self.usage.input_tokens:,}",
            f"{self.usage.output_tokens:,}",
            dollars(self.usage.cost_usd),
        )


class Sums:
    """Adds up what the turns of a session take, without the sessions below it."""

    HEADER: ClassVar = (
        "Question",
        "Turn",
        "Model",
        "Cells",
        "Time of cells",
        "Calls of cells",
        "Tokens in",
        "Tokens out",
        "Cost",
    )

    def __init__(self) -> None:
        self._turns: list[_Turn] = []

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """Return a row for each turn."""
        return [turn.row() for turn in self._turns]

    def begin(self, question: int, turn: int) -> None:
        """Begin a turn."""
        self._turns.append(_Turn(question, turn))

    def root(self, usage: Usage | None, seconds: float) -> None:
        """Add a request to the root model."""
        self._turns[-1].usage += usage or Usage()
        self._turns[-1].model_seconds += seconds

    def cell(self, seconds: float) -> None:
        """Add a cell."""
        self._turns[-1].cells += 1
        self._turns[-1].cell_seconds += seconds

    def call(self, usage: Usage | None) -> None:
        """Add a call of a cell."""
        self._turns[-1].calls += 1
        self._turns[-1].usage += usage or Usage()
