"""The loop, over a scripted model and a kernel that runs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from rlm_kernel.controller import ContextSummary, Controller, ControllerLimits, Outcome
from rlm_kernel.errors import BudgetExceeded, ConfigError, ModelRejected, NoAnswer, RateLimited, ScriptExhausted
from rlm_kernel.events import AnswerGiven, ModelFailed, ModelReplied, ModelRequested, ModelRetried, Notice, TurnStarted
from rlm_kernel.kernel.result import CellResult, Final
from rlm_kernel.models.model import Completion, ModelRequest
from rlm_kernel.types import JSON, Message
from tests.support.fakes import (
    FakeCells,
    FakeModel,
    ListSink,
    Runner,
    SilentModel,
    Turn,
    cell,
    cell_error,
    cell_ok,
    completion,
)

CONTEXT = ContextSummary(type_name="str", length=12_345, unit="characters", total_chars=12_345, preview="Once {upon}")
CELL = "```repl\nlook()\n```"


def partial(answer: str, turns: int, reason: str) -> Outcome:
    """Return the outcome of a question whose best answer had to be asked for."""
    return Outcome(answer=answer, status="partial", source="last_request", turns=turns, reason=reason)


class Run:
    """One controller over fakes, and what it did."""

    def __init__(self, turns: Iterable[Turn], run: Runner | None = None, **limits: Any) -> None:
        self.model = FakeModel(turns)
        self.cells = FakeCells(run)
        self.sink = ListSink()
        self.controller = Controller(self.model, self.cells, self.sink, ControllerLimits(**limits))

    async def answer(self) -> Outcome:
        return await self.controller.answer("How $many {words}?", CONTEXT)

    def told(self, request: int) -> str:
        """Return the last message of a request."""
        return self.model.requests[request].messages[-1].content


def by_code(**results: CellResult) -> Runner:
    return lambda code: results[code.strip()]


async def test_a_cells_final_is_the_answer() -> None:
    """The whole way: question, cell, output shown, final."""
    run = Run(
        [CELL, "```repl\nFINAL(n)\n```"], lambda code: cell_ok("7 words", final="seven" if "FINAL" in code else None)
    )
    assert await run.answer() == Outcome(answer="seven", status="answered", source="FINAL", turns=2)
    assert run.cells.ran == [("look()\n", 1), ("FINAL(n)\n", 2)]
    assert "7 words" in run.told(1)


async def test_the_first_messages_hold_the_question_and_the_context_as_data() -> None:
    """Neither is taken for a template."""
    run = Run(["FINAL(1)"])
    await run.answer()
    system, user = run.model.requests[0].messages
    assert (system.role, user.role) == ("system", "user")
    assert "How $many {words}?" in user.content
    assert "`str` of 12,345 characters" in user.content
    assert "Once {upon}" in user.content
    assert "$" not in system.content


async def test_the_system_prompt_names_every_function_and_limit() -> None:
    """What it does not name, a model does not use."""
    run = Run(["FINAL(1)"], max_turns=17, shown_characters=4_321)
    await run.answer()
    text = run.model.requests[0].messages[0].content
    names = ["llm_query(", "llm_query_batched(", "return_exceptions", "allm_query(", "allm_query_batched("]
    for name in [
        *names,
        "FINAL(",
        "FINAL_VAR(",
        "SHOW_VARS(",
        'answer["ready"]',
        "17 turns",
        "4,321",
        "600 seconds",
        "500,000",
    ]:
        assert name in text


async def test_a_folder_is_described_by_its_files() -> None:
    """The model sees how many there are and some names."""
    run = Run(["FINAL(1)"])
    names = ("a.txt", "b\x1b[0m.txt")
    context = ContextSummary(type_name="dict", length=9, unit="files", total_chars=70, preview="", names=names)
    await run.controller.answer("?", context)
    assert "`dict` of 9 files" in run.told(0)
    assert "70 characters altogether" in run.told(0)
    assert "Files: a.txt, b.txt, and 7 more." in run.told(0)


async def test_several_contexts_are_described_by_name_and_within_a_bound() -> None:
    """Each has its type, length and beginning; fifty of them with long beginnings still make a short message."""
    for count, least in ((2, 1_000), (50, -1)):
        parts = tuple(
            ContextSummary(
                name=f"part{number}",
                type_name="dict[str, str]",
                length=7,
                unit="files",
                total_chars=70,
                preview="{x" * 1_000,
                names=("a.txt",) * 20,
            )
            for number in range(count)
        )
        whole = ContextSummary(type_name="dict", length=count, unit="contexts", total_chars=9, preview="", parts=parts)
        run = Run(["FINAL(1)"])
        await run.controller.answer("?", whole)
        said = run.told(0)
        assert f"There are {count}, each a variable of its own: `part0`, `part1`" in said
        assert "`part1` is a `dict[str, str]` of 7 files." in said
        assert least < said.count("{x") <= 1_600
        assert len(said) < 12_000


async def test_the_conversation_only_grows_and_its_record_adds_up() -> None:
    """Each request begins with the one before, and the recorded new messages make the whole of the last."""
    run = Run([CELL, "thinking", CELL, "FINAL(x)"])
    await run.answer()
    requests = [request.messages for request in run.model.requests]
    for before, after in pairwise(requests):
        assert after[: len(before)] == before
    recorded: list[Message] = []
    for event in run.sink.events:
        if isinstance(event, ModelRequested):
            assert event.history == len(recorded)
            recorded += event.messages
    assert tuple(recorded) == requests[-1]
    assert [message.role for message in recorded] == ["system", *["user", "assistant"] * 3, "user"]


async def test_events_come_before_what_they_announce() -> None:
    """The request is recorded before it is sent, the reply before its cell runs."""
    seen: list[list[str]] = []

    def look(code: str) -> CellResult:
        seen.append(names())
        return cell_ok(final="a")

    run = Run([], look)

    def names() -> list[str]:
        return [type(event).__name__ for event in run.sink.events]

    class Watching(FakeModel):
        async def complete(self, request: ModelRequest) -> Completion:
            seen.append(names())
            return await super().complete(request)

    await Controller(Watching([CELL]), run.cells, run.sink, ControllerLimits()).answer("?", CONTEXT)
    asked = ["QuestionAsked", "ProfileChosen", "TurnStarted", "ModelRequested"]
    assert seen == [asked, [*asked, "ModelReplied"]]
    assert names()[5:] == ["AnswerGiven"]


async def test_calls_are_numbered() -> None:
    """Requests and replies carry the same ids."""
    run = Run([CELL, "FINAL(x)"])
    await run.answer()
    calls = [event.call for event in run.sink.events if isinstance(event, ModelRequested | ModelReplied)]
    assert calls == ["m1", "m1", "m2", "m2"]


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ("text", "text"),
        (42, "42"),
        ({"a": [1, "é"]}, '{"a": [1, "é"]}'),
        (False, "false"),
        ([], "[]"),
        ("a\ud800", "a?"),
    ],
)
async def test_a_value_that_is_no_text_is_given_as_json(value: JSON, answer: str) -> None:
    """Text is given as it is."""
    run = Run([CELL], lambda code: cell_ok(final=value))
    assert (await run.answer()).answer == answer


@pytest.mark.parametrize("source", ["FINAL", "FINAL_VAR", "answer"])
async def test_the_answers_source_is_kept(source: str) -> None:
    """How the cell gave its answer is recorded."""
    final = Final(value="v", source=source)  # type: ignore[arg-type]
    run = Run([CELL], lambda code: cell("ok", final=final))
    assert (await run.answer()).source == source
    assert run.sink.events[-1] == AnswerGiven(answer="v", source=final.source)


async def test_several_cells_run_in_order_and_the_last_final_counts() -> None:
    """A later final replaces an earlier one of the same reply."""
    results = {"a": cell_ok(final="first"), "b": cell_ok(final="second"), "c": cell_ok()}
    run = Run(["```repl\na\n```\n```repl\nb\n```\n```repl\nc\n```"], by_code(**results))
    assert (await run.answer()).answer == "second"


async def test_cells_after_a_failed_one_are_not_run() -> None:
    """And the model is told how many."""
    run = Run(
        ["```repl\na\n```\n```repl\nb\n```\n```repl\nc\n```", "FINAL(1)"], by_code(a=cell_ok("fine"), b=cell_error())
    )
    await run.answer()
    assert [code for code, _ in run.cells.ran] == ["a\n", "b\n"]
    for words in ("Output of cell 1 of 3:\n\nfine", "ValueError: boom", "Cells not run, because this one failed: 1."):
        assert words in run.told(1)


@pytest.mark.parametrize("status", ["error", "timed_out", "kernel_died", "interrupted"])
async def test_a_final_of_a_failed_cell_is_no_answer(status: str) -> None:
    """The model sees the failure and goes on."""
    failed = cell(status, final=Final(value="early", source="FINAL"))  # type: ignore[arg-type]
    run = Run([CELL, "FINAL(late)"], lambda code: failed)
    assert (await run.answer()).answer == "late"


async def test_a_textual_final_counts_after_code_that_worked() -> None:
    """The code runs first."""
    run = Run([f"{CELL}\nFINAL(it)"])
    assert await run.answer() == Outcome(answer="it", status="answered", source="FINAL", turns=1)
    assert len(run.cells.ran) == 1


async def test_a_failure_voids_a_textual_final_of_the_same_reply() -> None:
    """The model gave it before it saw the failure."""
    run = Run([f"{CELL}\nFINAL(guess)", "FINAL(checked)"], lambda code: cell_error())
    assert (await run.answer()).answer == "checked"


async def test_a_cells_final_goes_before_a_textual_one() -> None:
    """What ran is closer to the truth than what was written beside it."""
    run = Run([f"{CELL}\nFINAL(text)"], lambda code: cell_ok(final="cell"))
    assert (await run.answer()).answer == "cell"


async def test_a_textual_final_var_is_resolved_in_the_kernel() -> None:
    """The variable's value is the answer."""
    final = Final(value="value", source="FINAL_VAR")
    run = Run(["FINAL_VAR(x)"], lambda code: cell("ok", final=final))
    assert await run.answer() == Outcome(answer="value", status="answered", source="FINAL_VAR", turns=1)
    assert run.cells.ran == [("FINAL_VAR('x')", 1)]


async def test_a_textual_final_var_of_an_unknown_name_is_told() -> None:
    """The kernel's own error goes back to the model."""
    run = Run(["FINAL_VAR(x)", "FINAL(1)"], lambda code: cell_error("no variable x"))
    await run.answer()
    assert "no variable x" in run.told(1)


@pytest.mark.parametrize("value", ["", "  \n"])
async def test_an_empty_answer_is_told_once(value: str) -> None:
    """The model may mend it; a second empty one leads to the last request."""
    run = Run([CELL, CELL, "best"], lambda code: cell_ok(final=value))
    assert await run.answer() == partial("best", 3, "The final answers were empty.")
    assert "was empty" in run.told(1)


async def test_replies_without_code_or_answer_lead_to_the_last_request() -> None:
    """Told what to do each time, asked for the best answer after so many in a row."""
    run = Run(["hm", "well", CELL, "hm", "well", "so", "It is 7."], max_idle_replies=3)
    assert await run.answer() == partial("It is 7.", 7, "3 replies in a row held neither code nor an answer.")
    assert "neither code nor a final answer" in run.told(1)
    assert "3 replies in a row" in run.told(6)
    assert any(isinstance(event, Notice) for event in run.sink.events)


async def test_the_turn_limit_leads_to_the_last_request() -> None:
    """Its own turn is counted and recorded."""
    run = Run([CELL, CELL, "FINAL(as far as I saw: 7)"], max_turns=2)
    outcome = await run.answer()
    assert outcome == partial("as far as I saw: 7", 3, "All 2 turns are used.")
    assert [event.turn for event in run.sink.events if isinstance(event, TurnStarted)] == [1, 2, 3]
    assert "All 2 turns are used." in run.told(2)


async def test_a_final_in_a_cell_of_the_last_reply_counts() -> None:
    """Models answer in the form they are used to."""
    run = Run(
        [CELL, "```repl\nFINAL(n)\n```"], lambda code: cell_ok(final="7" if "FINAL" in code else None), max_turns=1
    )
    assert await run.answer() == partial("7", 2, "All 1 turns are used.")


@pytest.mark.parametrize(
    "last",
    ["", "  ", CELL, "FINAL()", completion("So\n```repl\nx = ", "length")],
    ids=["none", "blank", "code", "empty", "torn"],
)
async def test_a_last_reply_without_an_answer_is_no_answer(last: Turn) -> None:
    """The error names the way out."""
    run = Run([CELL, last], lambda code: cell_error(), max_turns=1)
    with pytest.raises(NoAnswer, match=r"fake:model gave no answer in 2 turns: All 1 turns.*--max-turns \(now 1\)"):
        await run.answer()
    assert not any(isinstance(event, AnswerGiven) for event in run.sink.events)


async def test_a_reply_cut_off_in_a_cell_is_told_and_not_run() -> None:
    """The model learns that it has to be shorter."""
    cut_off = [completion(text, "length") for text in ("```repl\nx = ", "so I think th", f"{CELL}\nNow th")]
    run = Run([*cut_off, "FINAL(1)"])
    await run.answer()
    assert [turn for _, turn in run.cells.ran] == [3]
    assert all("cut off before its end" in run.told(request) for request in (1, 2, 3))


async def test_an_empty_reply_is_never_sent_back_as_an_empty_message() -> None:
    """Providers refuse a message without text."""
    run = Run([" ", "FINAL(1)"])
    await run.answer()
    assert all(message.content.strip() for message in run.model.requests[1].messages)


async def test_what_cells_show_together_is_bounded() -> None:
    """Many cells of one reply share the turn's limit."""
    run = Run(["```repl\na\n```\n" * 20, "FINAL(1)"], lambda code: cell_ok("x" * 10_000), shown_characters=4_000)
    await run.answer()
    assert len(run.told(1)) < 4_000 + 20 * 40


@pytest.mark.parametrize("error", [ModelRejected("no"), BudgetExceeded("spent")])
async def test_a_models_failure_is_recorded_and_raised(error: Exception) -> None:
    """It comes out as it is."""
    run = Run([error])
    with pytest.raises(type(error)):
        await run.answer()
    last = run.sink.events[-1]
    assert isinstance(last, ModelFailed)
    assert (last.call, last.error, last.message) == ("m1", type(error).__name__, str(error))


async def test_a_script_that_ends_early_is_an_error() -> None:
    """It is not taken for an answer."""
    with pytest.raises(ScriptExhausted):
        await Run([CELL]).answer()


async def test_retries_are_recorded() -> None:
    """The model's own wrapper tells of them through the request."""

    class Retrying(FakeModel):
        async def complete(self, request: ModelRequest) -> Completion:
            assert request.on_retry is not None
            request.on_retry(1, RateLimited("slow down"), 2.5)
            return await super().complete(request)

    sink = ListSink()
    await Controller(Retrying(["FINAL(1)"]), FakeCells(), sink, ControllerLimits()).answer("?", CONTEXT)
    assert ModelRetried(call="m1", attempt=1, error="RateLimited", message="slow down", wait=2.5) in sink.events


async def test_cancelling_ends_the_request_and_leaves_no_task() -> None:
    """Nothing of a cancelled run goes on."""
    model = SilentModel()
    sink = ListSink()
    task = asyncio.create_task(Controller(model, FakeCells(), sink, ControllerLimits()).answer("?", CONTEXT))
    await model.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert model.cancelled
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert isinstance(sink.events[-1], ModelRequested)


@pytest.mark.parametrize("limit", ["max_turns", "max_idle_replies", "shown_characters"])
def test_a_limit_that_allows_nothing_is_refused(limit: str) -> None:
    """The message names it."""
    limits: dict[str, Any] = {limit: 0}
    with pytest.raises(ConfigError, match=limit):
        replace(ControllerLimits(), **limits)
