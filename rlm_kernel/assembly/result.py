"""`RunResult`: what a question came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from rlm_kernel.events import RunStatus
from rlm_kernel.types import Usage

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult(Generic[T_co]):
    """A question's outcome.

    `answer` is the answer's text, `value` what that text stands for: the text itself, or an object of the
    `answer_type` that was asked for. `status` is "partial" where the answer is the best one so far, and `reason` says
    which limit was reached. `recording` is the run's folder, gone if it was not to be kept; `usage` (per model name),
    `seconds` and `turns` are those of this question. `before` is what the runs that this one resumes had used, which
    `usage` does not count. `head` is SHA-256 of the recording's last line, against which any
    later change of the recording shows; None for a question of a session, whose run goes on.
    """

    answer: str
    value: T_co
    status: RunStatus
    run: str
    recording: Path
    usage: dict[str, Usage]
    seconds: float
    turns: int
    reason: str | None = None
    head: str | None = None
    before: dict[str, Usage] = field(default_factory=dict)

    @property
    def cost_usd(self) -> float | None:
        """What all calls cost, in US dollars; None if a price is unknown."""
        return sum(self.usage.values(), Usage()).cost_usd

    @property
    def total_cost_usd(self) -> float | None:
        """What all calls cost, those of the runs that this one resumes too; None if a price is unknown."""
        return sum([*self.before.values(), *self.usage.values()], Usage()).cost_usd
