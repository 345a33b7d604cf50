"""The loop of a Recursive Language Model: ask the model, run its cells, show it what came out, until it answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rlm_kernel.controller import compaction, prompt
from rlm_kernel.controller.checked import Checked
from rlm_kernel.controller.conversation import Conversation
from rlm_kernel.controller.ports import AnswerCheck, CellRunner, ContextSummary, ControllerLimits, Outcome
from rlm_kernel.controller.profile import Profile, find_profile
from rlm_kernel.controller.reply import Cell, Reply, read_reply
from rlm_kernel.controller.shown import shown
from rlm_kernel.controller.tools import PYTHON, read_calls
from rlm_kernel.errors import BudgetExceeded, NoAnswer, PromptTooLong, ToolsRefused
from rlm_kernel.events import AnswerGiven, AnswerSource, EventSink, Notice, ProfileChosen, QuestionAsked, TurnStarted
from rlm_kernel.kernel.result import CellResult, Final
from rlm_kernel.models.model import Completion, Model, OnText
from rlm_kernel.text import encodable

MAX_EMPTY_ANSWERS = 2
MAX_REFUSALS = 2
_REFUSALS = ("refusal", "content_filter")


@dataclass(frozen=True, slots=True)
class _Step:
    """What a reply came to: an answer (perhaps an empty one) with its source, or else what to tell the model.

    `ran`: it did some work. `refused`: the model declined, in words that are no answer.
    """

    feedback: str
    answer: str | None = None
    source: AnswerSource = "reply"
    ran: bool = False
    refused: bool = False


class Controller:
    """Drives one model over one kernel; the kernel's session records its cells, this records the rest.

    It may be asked again and again, one question after another: they are one conversation, and turns count on.
    """

    def __init__(
        self,
        model: Model,
        cells: CellRunner,
        sink: EventSink,
        limits: ControllerLimits,
        profile: Profile | None = None,
        on_text: OnText | None = None,
    ) -> None:
        """Without a `profile` it is the built-in one for the model's name. With `on_text` replies are streamed."""
        self._model = model
        self._cells = cells
        self._sink = sink
        self._limits = limits
        self._profile = profile or find_profile(model.name)
        self._talk = Conversation(model, sink, max_reply_tokens=limits.max_reply_tokens)
        self._talk.on_text = on_text
        self.before_turn: Callable[[], None] = lambda: None
        """Called before each turn; what it raises ends the question there."""
        self._question = ""
        self._checked = Checked(None, sink, 0)
        self._asks = self._turn = 0
        self._given_up = False

    def read_up_to(self, window: int | None) -> None:
        """Let the model read so many tokens from here on."""
        self._profile = replace(self._profile, window=window)

    async def answer(self, question: str, context: ContextSummary, check: AnswerCheck | None = None) -> Outcome:
        """Return the model's answer to `question`, for which it has all of `limits.max_turns`.

        With a `check` the model is told the schema, and once what is wrong with its answer; `AnswerInvalid` is raised
        for a second answer that does not fit.
        Raise `NoAnswer` if even a last request for the best answer so far gives none, a `ModelError` if the model
        fails, a `SandboxError` if the container is lost. Cancelling leaves nothing behind. The next question can be
        asked after any of these, as far as the cells can be run.
        """
        self._begin(question, context, check)
        outcome = await self._answer(self._turn)
        self._given_up = False
        self._sink.emit(
            AnswerGiven(answer=outcome.answer, source=outcome.source, ask=self._asks, reason=outcome.reason)
        )
        return outcome

    def _begin(self, question: str, context: ContextSummary, check: AnswerCheck | None) -> None:
        self._asks += 1
        self._checked = Checked(check, self._sink, self._asks)
        self._sink.emit(QuestionAsked(ask=self._asks, question=question, schema=check.schema if check else None))
        self._question = prompt.shaped(question, check.schema) if check else question
        if self._asks == 1 or self._talk.fresh:
            self._context = context
            self._start()
        else:
            self._talk.say(prompt.next_question(self._question, given_up=self._given_up))
        self._given_up = True

    def _start(self) -> None:
        """Begin the conversation, as the profile says."""
        profile = self._profile
        self._sink.emit(
            ProfileChosen(
                name=profile.name,
                source=profile.source,
                digest=profile.digest,
                tools=profile.tools,
                window=profile.window,
            )
        )
        self._talk.tools = (PYTHON,) if profile.tools else ()
        self._talk.extra = profile.request
        self._talk.start(prompt.opening(profile, self._question, self._context, self._limits))

    async def _answer(self, before: int) -> Outcome:
        """Go on, after `before` turns for earlier questions, up to an answer."""
        idle = empty = refusals = 0
        reason, budget = f"All {self._limits.max_turns} turns are used.", self._limits.budget
        budget.check()
        while self._turn - before < self._limits.max_turns and budget.look() is None:
            budget.note_turn(self._turn - before + 1)
            completion = await self._ask_in_budget()
            if completion is None:
                break
            step = await self._act(completion)
            if step.answer:
                if (fitting := await self._checked.take(step.answer)) is not None:
                    return self._outcome(fitting, step.source, before, budget.look())
                step = _Step(self._checked.feedback, ran=True)
            refusals += step.refused
            empty += step.answer is not None
            idle = 0 if step.ran else idle + 1
            if refusals == MAX_REFUSALS:
                raise NoAnswer(self._refused(completion))
            if step.feedback:
                self._talk.say(step.feedback)
            if empty == MAX_EMPTY_ANSWERS:
                reason = "The final answers were empty."
                break
            if idle == self._limits.max_idle_replies:
                reason = f"{idle} replies in a row held neither code nor an answer."
                break
        return await self._ask_last(before, budget.look() or reason)

    async def _ask_in_budget(self) -> Completion | None:
        """Have the next turn; None if the budget allows no more, though there were some."""
        try:
            return await self._ask()
        except BudgetExceeded:
            if self._talk.fresh or self._limits.budget.spent is None:
                raise
            return None

    async def _ask(self) -> Completion:
        """Have the next turn; mend once what the provider can't take: tools, or a conversation that is too long."""
        self.before_turn()
        self._turn += 1
        self._sink.emit(TurnStarted(turn=self._turn))
        window = self._profile.window
        if window is not None and self._talk.tokens > window * compaction.FULL:
            await compaction.compact(self._talk, self._cells, self._sink, self._keeping())
        try:
            return await self._talk.ask()
        except ToolsRefused as error:
            if not self._profile.tools or not self._talk.fresh:
                raise
            self._sink.emit(Notice(message=f"{error}. The model is asked for code in fences instead."))
            self._profile = replace(self._profile, tools=False)
            self._start()
        except PromptTooLong:
            if not await compaction.compact(self._talk, self._cells, self._sink, self._keeping(refused=True)):
                raise
        return await self._talk.ask()

    def _keeping(self, *, refused: bool = False) -> compaction.Keeping:
        question = self._question if self._asks > 1 else None
        alone = refused or self._limits.budget.spent is not None  # what is left then is for the best answer
        return compaction.Keeping(question=question, turn=self._turn, window=self._profile.window, alone=alone)

    async def _act(self, completion: Completion) -> _Step:
        """Do what a reply says: run its cells in order up to the first that fails, then look for a final answer.

        Calls of the tool go before fences, which beside them are only shown. A failure voids a final of the same reply,
        wherever it stood: the model gave it before it saw the failure. Otherwise the last final that a cell gave
        counts, and after it a textual one.
        """
        reply = read_reply(completion.text, completion.finish_reason)
        calls = read_calls(completion.tool_calls, completion.finish_reason)
        if completion.finish_reason in _REFUSALS and not calls:
            return _Step(prompt.REFUSED, refused=True)
        cells = calls or tuple(map(Cell, reply.cells))
        results = await self._run(cells)
        self._answer_calls(calls, results)
        failed = len(results) < len(cells) or (bool(results) and results[-1].status != "ok")
        finals = [] if failed else [result.final for result in results if result.final]
        if not finals and not failed and reply.final:
            if reply.final.text is not None:
                return _final_step(reply.final.text, "FINAL")
            resolved = await self._run([Cell(reply.final.code or "")])
            results += resolved
            finals = [result.final for result in resolved if result.final and result.status == "ok"]
        if finals:
            return _final_step(_as_text(finals[-1]), finals[-1].source)
        return self._unfinished(completion, reply, results if not calls else results[len(calls) :], bool(calls))

    def _unfinished(self, completion: Completion, reply: Reply, results: list[CellResult], called: bool) -> _Step:
        cells = max(len(reply.cells), len(results))
        said = [prompt.feedback(results, cells, self._limits.shown_characters)] if results else []
        if reply.invented and not called:
            said.append(prompt.INVENTED)
        if not called and (reply.torn or completion.finish_reason == "length"):
            said.append(prompt.CUT_OFF)
        if not said and not called:
            said.append(prompt.no_code(self._profile, block=reply.others))
        return _Step("\n\n".join(said), ran=bool(results) or reply.torn or called)

    async def _run(self, cells: Sequence[Cell]) -> list[CellResult]:
        results: list[CellResult] = []
        for cell in cells:
            if cell.problem is not None:
                break
            results.append(await self._cells.run_cell(cell.code, turn=self._turn))
            if results[-1].status != "ok":
                break
        return results

    def _answer_calls(self, calls: Sequence[Cell], results: Sequence[CellResult]) -> None:
        """Answer every call of a tool: with its cell's output, what was wrong with it, or that it was not run."""
        for place, cell in enumerate(calls):
            if place < len(results):
                said = shown(results[place], self._limits.shown_characters // len(results))
            else:
                said = cell.problem or prompt.NOT_RUN
            self._talk.answer_call(cell.call or "", said)

    async def _ask_last(self, before: int, reason: str) -> Outcome:
        """Ask for the best answer so far; a final in any form or, in a reply without cells, the plain text is it."""
        self.before_turn()
        self._sink.emit(Notice(message=f"{reason} The model is asked for its best answer so far."))
        said = prompt.last_request(reason)
        while (fitting := await self._checked.take(await self._last_answer(said, before, reason))) is None:
            said = self._checked.feedback
        return self._outcome(fitting, "last_request", before, reason)

    async def _last_answer(self, said: str, before: int, reason: str) -> str:
        self._talk.say(said)
        with self._limits.budget.closing():
            completion = await self._ask()
        step = await self._act(completion)
        if step.refused:
            raise NoAnswer(self._refused(completion))
        answer = step.answer or ""
        if step.answer is None and not step.ran:
            answer = encodable(completion.text).strip()
        if not answer:
            raise NoAnswer(
                f"{self._model.name} gave no answer in {self._turn - before} turns: {reason} Try another model, or "
                f"allow more {self._short_of(completion)}; the recording shows what it did."
            )
        return answer

    def _short_of(self, completion: Completion) -> str:
        if self._limits.budget.spent is not None:
            return "of it"
        if completion.finish_reason == "length" and not completion.text:
            return "tokens for a reply with --max-reply-tokens"
        return f"turns with --max-turns (now {self._limits.max_turns})"

    def _outcome(self, answer: str, source: AnswerSource, before: int, reason: str | None) -> Outcome:
        """Return the answer; with a reason why there was no more work it is a partial one."""
        status: Literal["answered", "partial"] = "answered" if reason is None else "partial"
        return Outcome(answer=answer, status=status, source=source, turns=self._turn - before, reason=reason)

    def _refused(self, completion: Completion) -> str:
        said = " ".join(completion.text.split())[:500] or "it gave no reason"
        return f"{self._model.name} refused: {said}; ask otherwise, or try another model"


def _final_step(answer: str, source: AnswerSource) -> _Step:
    return _Step(prompt.EMPTY_ANSWER, encodable(answer).strip(), source, ran=True)


def _as_text(final: Final) -> str:
    """Return a final value as it is if it is text, as nothing if it is None, else as JSON."""
    if final.value is None or isinstance(final.value, str):
        return final.value or ""
    return json.dumps(final.value, ensure_ascii=False)
