"""Warnings: a share of a limit is passed, or what most earlier runs used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rlm_kernel.budget.amounts import COST, NAMES, TOTAL, UNITS_PER_DOLLAR, described, in_unit
from rlm_kernel.budget.limits import Limits, Warnings
from rlm_kernel.events import BudgetWarning, EventSink

TIME = "run_timeout"


@dataclass(slots=True)
class _Mark:
    """A threshold that was not passed yet, in a dimension's units, or in `setting`'s own."""

    setting: str
    kind: Literal["share", "percentile"]
    threshold: float
    allowed: float | None
    index: int | None = None

    @property
    def words(self) -> str:
        amount = self.threshold if self.allowed is None else self.allowed
        if self.index is not None:
            return described(self.index, int(amount))
        return f"{amount:g} s" if self.setting == TIME else f"{amount:g} turns"


class Warner:
    """Emits a `BudgetWarning` the first time that something is passed."""

    def __init__(self, limits: Limits, warnings: Warnings, sink: EventSink) -> None:
        self._sink = sink
        self._percentile = warnings.percentile
        share = warnings.share
        others = {TIME: limits.seconds, "max_turns": limits.turns}
        self._marks: list[_Mark] = []
        self._others: dict[str, _Mark] = {}
        if share is not None:
            for index, limit in enumerate(limits.units):
                if limit is not None:
                    self._marks.append(_Mark(NAMES[index], "share", limit * share, limit, index))
            self._others = {
                name: _Mark(name, "share", limit * share, limit) for name, limit in others.items() if limit is not None
            }
        for index, usual in ((COST, _units(warnings.usual_cost)), (TOTAL, warnings.usual_tokens)):
            if usual is not None:
                self._marks.append(_Mark(NAMES[index], "percentile", usual, None, index))

    def look(self, settled: Sequence[int]) -> None:
        """Warn of the dimensions whose marks are passed."""
        passed = [mark for mark in self._marks if mark.index is not None and settled[mark.index] >= mark.threshold]
        for mark in passed:
            self._marks.remove(mark)
            self._warn(mark, settled[mark.index or 0])

    def note(self, setting: str, value: float) -> float | None:
        """Warn if `value` passes the mark of a setting; return how much is missing to it, None without one ahead."""
        mark = self._others.get(setting)
        if mark is None:
            return None
        if value < mark.threshold:
            return mark.threshold - value
        del self._others[setting]
        self._warn(mark, value)
        return None

    def _warn(self, mark: _Mark, used: float) -> None:
        if mark.kind == "share":
            share = mark.threshold / mark.allowed if mark.allowed else 1
            message = f"{share:.0%} of {mark.words} are used"
        else:
            message = f"this run has used more than {self._percentile:g} % of the earlier ones did: {mark.words}"
        of = [used, mark.threshold, mark.allowed]
        if mark.index is not None:
            of = [None if each is None else in_unit(mark.index, each) for each in of]
        self._sink.emit(
            BudgetWarning(
                limit=mark.setting,
                kind=mark.kind,
                used=of[0] or 0,
                threshold=of[1] or 0,
                allowed=of[2],
                message=message,
            )
        )


def _units(dollars: float | None) -> float | None:
    return None if dollars is None else dollars * UNITS_PER_DOLLAR
