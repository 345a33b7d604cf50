"""The loop of a Recursive Language Model: ask the model, run its cells, show it what came out, until it answers."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from rlm_kernel.controller import prompt
from rlm_kernel.controller.ports import CellRunner, ContextSummary, ControllerLimits, Outcome
from rlm_kernel.controller.reply import Reply, read_reply
from rlm_kernel.controller.shown import encodable
from rlm_kernel.errors import NoAnswer, RlmKernelError
from rlm_kernel.events import (
    AnswerGiven,
    AnswerSource,
    EventSink,
    ModelFailed,
    ModelReplied,
    ModelRequested,
    ModelRetried,
    Notice,
    QuestionAsked,
    TurnStarted,
)
from rlm_kernel.kernel.result import CellResult, Final
from rlm_kernel.models.model import Completion, Model, ModelRequest
from rlm_kernel.types import Message

MAX_EMPTY_ANSWERS = 2


@dataclass(frozen=True, slots=True)
class _Step:
    """What a reply came to: an answer (perhaps an empty one) with its source, or else what to tell the model."""

    feedback: str
    answer: str | None = None
    source: AnswerSource = "reply"
    ran: bool = False


class Controller:
    """Drives one model over one kernel; the kernel's session records its cells, this records the rest.

    It may be asked again and again, one question after another: they are one conversation, and turns count on.
    """

    def __init__(self, model: Model, cells: CellRunner, sink: EventSink, limits: ControllerLimits) -> None:
        self._model = model
        self._cells = cells
        self._sink = sink
        self._limits = limits
        self._talk = _Conversation(model, sink, limits.max_reply_tokens)
        self._asks = self._turn = 0
        self._given_up = False

    async def answer(self, question: str, context: ContextSummary) -> Outcome:
        """Return the model's answer to `question`, for which it has all of `limits.max_turns`.

        Raise `NoAnswer` if even a last request for the best answer so far gives none, a `ModelError` if the model
        fails, a `SandboxError` if the container is lost. Cancelling leaves nothing behind. The next question can be
        asked after any of these, as far as the cells can be run.
        """
        self._begin(question, context)
        outcome = await self._answer(self._talk, self._turn)
        self._given_up = False
        self._sink.emit(AnswerGiven(answer=outcome.answer, source=outcome.source, ask=self._asks))
        return outcome

    def _begin(self, question: str, context: ContextSummary) -> None:
        self._asks += 1
        self._sink.emit(QuestionAsked(ask=self._asks, question=question))
        if self._asks == 1:
            self._talk.messages += prompt.opening(question, context, self._limits)
        else:
            self._talk.say(prompt.next_question(question, given_up=self._given_up))
        self._given_up = True

    async def _answer(self, talk: _Conversation, before: int) -> Outcome:
        """Go on with `talk`, in which `before` turns were had for earlier questions, up to an answer."""
        idle = empty = 0
        reason = f"All {self._limits.max_turns} turns are used."
        while self._turn - before < self._limits.max_turns:
            step = await self._act(await self._ask(talk), self._turn)
            if step.answer:
                turns = self._turn - before
                return Outcome(answer=step.answer, status="answered", source=step.source, turns=turns)
            empty += step.answer is not None
            idle = 0 if step.ran else idle + 1
            talk.say(step.feedback)
            if empty == MAX_EMPTY_ANSWERS:
                reason = "The final answers were empty."
                break
            if idle == self._limits.max_idle_replies:
                reason = f"{idle} replies in a row held neither code nor an answer."
                break
        return await self._ask_last(talk, before, reason)

    async def _ask(self, talk: _Conversation) -> Completion:
        self._turn += 1
        self._sink.emit(TurnStarted(turn=self._turn))
        return await talk.ask()

    async def _act(self, completion: Completion, turn: int) -> _Step:
        """Do what a reply says: run its cells in order up to the first that fails, then look for a final answer.

        A failure voids a final of the same reply, wherever it stood: the model gave it before it saw the failure.
        Otherwise the last final that a cell gave counts, and after it a textual one.
        """
        reply = read_reply(completion.text, completion.finish_reason)
        results = await self._run(list(reply.cells), turn)
        failed = bool(results) and results[-1].status != "ok"
        finals = [] if failed else [result.final for result in results if result.final]
        if not finals and not failed and reply.final:
            if reply.final.text is not None:
                return _final_step(reply.final.text, "FINAL")
            resolved = await self._run([reply.final.code or ""], turn)
            results += resolved
            finals = [result.final for result in resolved if result.final and result.status == "ok"]
        if finals:
            return _final_step(_as_text(finals[-1]), finals[-1].source)
        return self._unfinished(completion, reply, results)

    def _unfinished(self, completion: Completion, reply: Reply, results: list[CellResult]) -> _Step:
        cells = max(len(reply.cells), len(results))
        said = [prompt.feedback(results, cells, self._limits.shown_characters)] if results else []
        if reply.torn or completion.finish_reason == "length":
            said.append(prompt.CUT_OFF)
        return _Step("\n\n".join(said) or prompt.NO_CODE, ran=bool(results) or reply.torn)

    async def _run(self, cells: list[str], turn: int) -> list[CellResult]:
        results: list[CellResult] = []
        for code in cells:
            results.append(await self._cells.run_cell(code, turn=turn))
            if results[-1].status != "ok":
                break
        return results

    async def _ask_last(self, talk: _Conversation, before: int, reason: str) -> Outcome:
        """Ask for the best answer so far; a final in any form or, in a reply without cells, the plain text is it."""
        self._sink.emit(Notice(message=f"{reason} The model is asked for its best answer so far."))
        talk.say(prompt.last_request(reason))
        completion = await self._ask(talk)
        step = await self._act(completion, self._turn)
        turns = self._turn - before
        answer = step.answer or ""
        if step.answer is None and not step.ran:
            answer = encodable(completion.text).strip()
        if not answer:
            raise NoAnswer(
                f"{self._model.name} gave no answer in {turns} turns: {reason} Try another model, or allow more turns "
                f"with --max-turns (now {self._limits.max_turns}); the recording shows what it did."
            )
        return Outcome(answer=answer, status="partial", source="last_request", turns=turns)


class _Conversation:
    """The append-only message list and its recorded requests."""

    def __init__(self, model: Model, sink: EventSink, max_reply_tokens: int | None) -> None:
        self.messages: list[Message] = []
        self._model = model
        self._sink = sink
        self._max_reply_tokens = max_reply_tokens
        self._recorded = 0
        self._calls = 0

    def say(self, text: str) -> None:
        """Append a message to the model; successive ones are one message, as some providers want turns to alternate."""
        if len(self.messages) > self._recorded and self.messages[-1].role == "user":
            text = f"{self.messages.pop().content}\n\n{text}"
        elif self.messages and self.messages[-1].role == "user":  # a request that got no reply
            self.messages.append(Message("assistant", "(no reply)"))
        self.messages.append(Message("user", text))

    async def ask(self) -> Completion:
        """Send the conversation and append the reply to it; both are recorded first."""
        self._calls += 1
        call = f"m{self._calls}"
        self._sink.emit(
            ModelRequested(
                call=call,
                model=self._model.name,
                history=self._recorded,
                messages=self.messages[self._recorded :],
                max_output_tokens=self._max_reply_tokens,
            )
        )
        self._recorded = len(self.messages)
        completion = await self._complete(call)
        # Providers refuse an assistant message without text.
        self.messages.append(Message("assistant", encodable(completion.text).strip() or "(empty reply)"))
        return completion

    async def _complete(self, call: str) -> Completion:
        def retried(attempt: int, error: BaseException, wait: float) -> None:
            name = type(error).__name__
            usage = getattr(error, "usage", None)
            self._sink.emit(
                ModelRetried(call=call, attempt=attempt, error=name, message=str(error), wait=wait, usage=usage)
            )

        request = ModelRequest(
            messages=tuple(self.messages), max_output_tokens=self._max_reply_tokens, on_retry=retried
        )
        start = time.perf_counter()
        try:
            completion = await self._model.complete(request)
        except RlmKernelError as error:
            seconds = time.perf_counter() - start
            usage = getattr(error, "usage", None)
            name = type(error).__name__
            self._sink.emit(ModelFailed(call=call, error=name, message=str(error), seconds=seconds, usage=usage))
            raise
        self._sink.emit(
            ModelReplied(
                call=call,
                text=completion.text,
                finish_reason=completion.finish_reason,
                usage=completion.usage,
                seconds=time.perf_counter() - start,
                attempts=completion.attempts,
                served_by=completion.served_by,
                reply_id=completion.reply_id,
                tool_calls=list(completion.tool_calls),
                reasoning=completion.reasoning,
            )
        )
        return completion


def _final_step(answer: str, source: AnswerSource) -> _Step:
    return _Step(prompt.EMPTY_ANSWER, encodable(answer).strip(), source, ran=True)


def _as_text(final: Final) -> str:
    """Return a final value as it is if it is text, as nothing if it is None, else as JSON."""
    if final.value is None or isinstance(final.value, str):
        return final.value or ""
    return json.dumps(final.value, ensure_ascii=False)
