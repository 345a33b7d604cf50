"""One plain call of a model, recorded as a run: no session, no code, the whole text in the prompt."""

from __future__ import annotations

import time

from rlm_kernel.assembly.budgets import open_budget, remember
from rlm_kernel.assembly.models import Models
from rlm_kernel.assembly.result import RunResult
from rlm_kernel.assembly.run import Run
from rlm_kernel.assembly.sinks import Listeners
from rlm_kernel.config import Settings
from rlm_kernel.errors import NoAnswer, RlmKernelError
from rlm_kernel.events import (
    AnswerGiven,
    ModelFailed,
    ModelReplied,
    ModelRequested,
    ModelRetried,
    QuestionAsked,
    TurnStarted,
)
from rlm_kernel.models.model import Completion, Model, ModelRequest
from rlm_kernel.recording import RecordingLog, new_run_id
from rlm_kernel.sandbox.stored import StoredContexts
from rlm_kernel.tools import Toolbox
from rlm_kernel.types import Message

_CALL = "m1"


async def ask_plainly(prompt: str, settings: Settings, listeners: Listeners) -> RunResult[str]:
    """Return what the root model replies to `prompt`.

    Raise `ConfigError` before anything is recorded, a `ModelError`, `BudgetExceeded`, or `NoAnswer` for an empty reply.
    """
    started = time.monotonic()
    async with Models.open(settings) as models:
        run_id = new_run_id()
        with RecordingLog(settings.state_dir, run_id, keep=settings.keep_recording) as log:
            run = Run(run_id, listeners.behind(log), models, StoredContexts(()), started, Toolbox())
            with run.recorded(prompt, settings), run.asking():
                budget = open_budget(settings, models.prices, run, plain=True)
                root = models.under(budget).root
                run.emit(QuestionAsked(ask=1, question=prompt))
                run.emit(TurnStarted(turn=1))
                async with budget.working():
                    answer = (await _complete(root, prompt, settings.max_reply_tokens, run)).text.strip()
                if not answer:
                    raise NoAnswer(f"{root.name} gave an empty reply")
                run.emit(AnswerGiven(answer=answer, source="reply"))
                run.answered("answered", answer)
            remember(settings, models.meter.usage, plain=True)
            return RunResult(
                answer=answer,
                value=answer,
                status="answered",
                run=run_id,
                recording=log.folder,
                usage=dict(models.meter.usage),
                seconds=time.monotonic() - started,
                turns=1,
            )


async def _complete(model: Model, prompt: str, tokens: int | None, run: Run) -> Completion:
    def retried(attempt: int, error: BaseException, wait: float) -> None:
        kind, usage = type(error).__name__, getattr(error, "usage", None)
        run.emit(ModelRetried(call=_CALL, attempt=attempt, error=kind, message=str(error), wait=wait, usage=usage))

    messages = (Message("user", prompt),)
    run.emit(ModelRequested(call=_CALL, model=model.name, history=0, messages=[*messages], max_output_tokens=tokens))
    begun = time.monotonic()
    try:
        completion = await model.complete(ModelRequest(messages=messages, max_output_tokens=tokens, on_retry=retried))
    except RlmKernelError as error:
        kind, usage = type(error).__name__, getattr(error, "usage", None)
        seconds = time.monotonic() - begun
        run.emit(ModelFailed(call=_CALL, error=kind, message=str(error), seconds=seconds, usage=usage))
        raise
    run.emit(
        ModelReplied(
            call=_CALL,
            text=completion.text,
            finish_reason=completion.finish_reason,
            usage=completion.usage,
            seconds=time.monotonic() - begun,
            attempts=completion.attempts,
            served_by=completion.served_by,
            reply_id=completion.reply_id,
        )
    )
    return completion
