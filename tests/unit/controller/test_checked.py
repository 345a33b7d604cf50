"""Answers that have to fit a schema, in the loop."""

from __future__ import annotations

import pytest

from rlm_kernel.errors import AnswerInvalid
from rlm_kernel.events import AnswerGiven, AnswerRejected, QuestionAsked
from rlm_kernel.types import JSON
from tests.support.fakes import cell_ok
from tests.unit.controller.test_loop import CELL, CONTEXT, Run


class Even:
    """Takes even numbers."""

    def __init__(self) -> None:
        self.schema: JSON = {"type": "integer", "multipleOf": 2}

    def fitting(self, answer: str) -> str:
        """Take it, without blanks."""
        if int(answer) % 2:
            raise ValueError(f"{answer} is odd")
        return answer.strip()

    def stop(self) -> None:
        """Do nothing."""


async def test_a_fitting_answer() -> None:
    """The schema is in the question, and the answer is what the check made of it."""
    run = Run(["FINAL( 4 )"])
    outcome = await run.controller.answer("How many?", CONTEXT, Even())
    assert (outcome.answer, outcome.status) == ("4", "answered")
    assert '"multipleOf": 2' in run.told(0)
    (asked,) = [event for event in run.sink.events if isinstance(event, QuestionAsked)]
    assert (asked.question, asked.schema) == ("How many?", Even().schema)


async def test_an_answer_is_mended_once() -> None:
    """What is wrong goes back to the model, which may work on; only the answer that fits is given."""
    run = Run(["FINAL(3)", CELL, "FINAL(4)"], lambda code: cell_ok("fine"))
    assert (await run.controller.answer("How many?", CONTEXT, Even())).answer == "4"
    assert "3 is odd" in run.told(1)
    events = [event for event in run.sink.events if isinstance(event, AnswerRejected | AnswerGiven)]
    assert [type(event) for event in events] == [AnswerRejected, AnswerGiven]


async def test_a_second_wrong_answer_ends_the_question() -> None:
    """There is one round of mending, for one question."""
    run = Run(["FINAL(3)", "FINAL(5)", "FINAL(3)", "FINAL(4)"])
    with pytest.raises(AnswerInvalid, match="5 is odd"):
        await run.controller.answer("How many?", CONTEXT, Even())
    assert (await run.controller.answer("And now?", CONTEXT, Even())).answer == "4"


async def test_the_last_request_is_checked_too() -> None:
    """A best answer so far that does not fit may be mended as well, and is partial."""
    run = Run([CELL, "3", "4"], max_turns=1)
    outcome = await run.controller.answer("How many?", CONTEXT, Even())
    assert (outcome.answer, outcome.status, outcome.turns) == ("4", "partial", 3)


async def test_mending_in_the_last_request() -> None:
    """An answer of the last turn may be mended in the request after it, once."""
    run = Run(["FINAL(3)", "4"], max_turns=1)
    assert (await run.controller.answer("How many?", CONTEXT, Even())).answer == "4"
    run = Run(["FINAL(3)", "5"], max_turns=1)
    with pytest.raises(AnswerInvalid):
        await run.controller.answer("How many?", CONTEXT, Even())
