"""The loop under a budget."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rlm_kernel.budget import Budget, Limits
from rlm_kernel.controller import Controller, ControllerLimits, Outcome
from rlm_kernel.controller.profile import find_profile
from rlm_kernel.errors import BudgetExceeded
from rlm_kernel.events import AnswerGiven, BudgetWarning, HistoryCompacted, ModelFailed
from rlm_kernel.kernel.result import CellResult
from rlm_kernel.models.budgeted import Budgeted, Counted
from rlm_kernel.models.model import Completion
from rlm_kernel.types import Usage
from tests.support.fakes import FakeCells, FakeModel, ListSink, Turn, cell_ok
from tests.unit.controller.test_loop import CONTEXT

CELL = "```repl\nx = 1\n```"


class Asked:
    """A question to a model whose calls are budgeted, as in a run."""

    def __init__(self, limits: Limits, *turns: Turn) -> None:
        self.sink = ListSink()
        self.budget = Budget(limits, sink=self.sink)
        self.model = FakeModel(turns)
        model = Counted(Budgeted(self.model, self.budget, is_sub=False), self.budget, is_sub=False)
        self.cells = FakeCells(self.run)
        self.spend_in_cell = False
        self.controller = Controller(model, self.cells, self.sink, ControllerLimits(budget=self.budget))

    def run(self, code: str) -> CellResult:
        if self.spend_in_cell:
            with pytest.raises(BudgetExceeded):
                self.budget.take_subcall()
        return cell_ok("out", final="seven" if "FINAL" in code else None)

    async def answer(self) -> Outcome:
        return await self.controller.answer("How many?", CONTEXT)

    def said(self) -> str:
        return "\n".join(message.content for message in self.model.requests[-1].messages)


async def test_a_spent_budget_is_told_once_and_the_best_answer_asked_for() -> None:
    """After the turn in which the budget was spent the model is asked for its best answer, and the outcome says why."""
    asked = Asked(Limits(subcalls=0), CELL, "FINAL(about seven)")
    asked.spend_in_cell = True
    outcome = await asked.answer()
    assert (outcome.answer, outcome.status, outcome.source) == ("about seven", "partial", "last_request")
    assert outcome.reason == "The limit of 0 sub-calls is reached."
    assert asked.said().count(outcome.reason) == 1
    assert len(asked.model.requests) == 2
    (given,) = [event for event in asked.sink.events if isinstance(event, AnswerGiven)]
    assert given.reason == outcome.reason


async def test_an_answer_from_a_spent_budget_is_partial() -> None:
    """A cell that gives its answer although its calls were refused ends the run, with an answer that is marked."""
    asked = Asked(Limits(subcalls=0), "```repl\nFINAL(seven)\n```")
    asked.spend_in_cell = True
    outcome = await asked.answer()
    assert (outcome.answer, outcome.status, outcome.source) == ("seven", "partial", "FINAL")
    assert outcome.reason is not None


async def test_the_root_models_own_calls_meet_the_limit() -> None:
    """When no ordinary request fits any more the last one still does, from what was kept back, and the limit holds."""
    usage = Usage(calls=1, input_tokens=2_500, output_tokens=500)
    turn = Completion(text=CELL, finish_reason="stop", usage=usage, served_by="fake")
    last = Completion(text="FINAL(best)", finish_reason="stop", usage=usage, served_by="fake")
    asked = Asked(Limits(total_tokens=14_000, reply_tokens=2_000), turn, turn, turn, last)
    outcome = await asked.answer()
    assert (outcome.answer, outcome.status) == ("best", "partial")
    assert outcome.reason == "The limit of 14,000 tokens is reached."
    assert asked.budget.used().total_tokens == 12_000
    with pytest.raises(BudgetExceeded):
        await asked.answer()
    assert len(asked.model.requests) == 4


async def test_without_a_first_turn_there_is_nothing_to_answer_from() -> None:
    """If not even the first request fits the run fails, with the way out; the model was not asked."""
    asked = Asked(Limits(total_tokens=100), "FINAL(no)")
    with pytest.raises(BudgetExceeded, match="--max-total-tokens"):
        await asked.answer()
    assert asked.model.requests == []
    assert [event.error for event in asked.sink.events if isinstance(event, ModelFailed)] == ["BudgetExceeded"]


async def test_turns_are_warned_of_too() -> None:
    """At the share of the turns there is a warning."""
    asked = Asked(Limits(turns=5), *[CELL] * 4, "FINAL(x)")
    await asked.answer()
    assert [event.limit for event in asked.sink.events if isinstance(event, BudgetWarning)] == ["max_turns"]


async def test_a_spent_budget_pays_no_summary() -> None:
    """A conversation that is too long as the budget is spent is cut by the host: what is left is for the answer."""
    usage = Usage(calls=1, input_tokens=9_000, output_tokens=10)
    first = Completion(text=f"{CELL}\n" + "x" * 9_000, finish_reason="stop", usage=usage, served_by="fake")
    asked = Asked(Limits(subcalls=0), "```repl\ny\n```", first, "FINAL(best)")
    profile = replace(find_profile("fake:m"), window=10_000)

    def run(code: str) -> CellResult:
        asked.spend_in_cell = code == "x = 1\n"
        return asked.run(code)

    asked.controller = Controller(
        asked.model, FakeCells(run), asked.sink, ControllerLimits(budget=asked.budget), profile
    )
    outcome = await asked.answer()
    assert (outcome.answer, outcome.status) == ("best", "partial")
    assert len(asked.model.requests) == 3
    (compacted,) = [event for event in asked.sink.events if isinstance(event, HistoryCompacted)]
    assert not compacted.by_model
