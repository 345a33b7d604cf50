"""One plain call of a model, recorded as a run: no session, no code, the whole text in the prompt."""

from __future__ import annotations

import time

from rlm_kernel.assembly.budgets import open_budget, remember
from rlm_kernel.assembly.models import Models
from rlm_kernel.assembly.result import RunResult
from rlm_kernel.assembly.retention import retaining
from rlm_kernel.assembly.run import Run
from rlm_kernel.assembly.sinks import Listeners
from rlm_kernel.config import Settings
from rlm_kernel.controller.conversation import Conversation
from rlm_kernel.errors import NoAnswer
from rlm_kernel.events import AnswerGiven, QuestionAsked, TurnStarted
from rlm_kernel.recording import RecordingLog, new_run_id
from rlm_kernel.sandbox.stored import StoredContexts
from rlm_kernel.tools import Toolbox


async def ask_plainly(prompt: str, settings: Settings, listeners: Listeners) -> RunResult[str]:
    """Return what the root model replies to `prompt`.

    Raise `ConfigError` before anything is recorded, a `ModelError`, `BudgetExceeded`, or `NoAnswer` for an empty reply.
    """
    started = time.monotonic()
    async with retaining(settings), Models.open(settings) as models:
        run_id = new_run_id()
        redaction = listeners.redaction(settings)
        models.keep_out(redaction)
        with RecordingLog(settings.state_dir, run_id, keep=settings.keep_recording, redaction=redaction) as log:
            run = Run(run_id, listeners.behind(log), models, StoredContexts(()), started, Toolbox())
            with run.recorded(prompt, settings), run.asking():
                budget = open_budget(settings, models.prices, run, plain=True)
                root = models.under(budget).root
                talk = Conversation(root, run, max_reply_tokens=settings.max_reply_tokens)
                talk.say(prompt)
                run.emit(QuestionAsked(ask=1, question=prompt))
                run.emit(TurnStarted(turn=1))
                async with budget.working():
                    answer = (await talk.ask()).text.strip()
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
                head=log.head.digest,
            )
