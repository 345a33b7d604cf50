"""The check of one question's answers against what was asked for."""

from __future__ import annotations

import asyncio

from rlm_kernel.controller import prompt
from rlm_kernel.controller.ports import AnswerCheck
from rlm_kernel.errors import AnswerInvalid
from rlm_kernel.events import AnswerRejected, EventSink


class Checked:
    """Takes the answers to question `ask`: one that does not fit may be mended once. Without a `check` all fit."""

    def __init__(self, check: AnswerCheck | None, sink: EventSink, ask: int) -> None:
        self._check = check
        self._sink = sink
        self._ask = ask
        self.problem = ""

    @property
    def feedback(self) -> str:
        """What to tell the model of the answer that did not fit."""
        return prompt.unfit(self.problem)

    async def take(self, answer: str) -> str | None:
        """Return `answer` as it is to be given, or None for one that does not fit.

        Raise `AnswerInvalid` for the second one.
        """
        if self._check is None:
            return answer
        mended = bool(self.problem)
        try:
            return await asyncio.to_thread(self._check.fitting, answer)  # it may be long, and the loop is others' too
        except asyncio.CancelledError:
            self._check.stop()
            raise
        except ValueError as error:
            self.problem = str(error) or "it does not fit"
        self._sink.emit(AnswerRejected(ask=self._ask, answer=answer, problem=self.problem))
        if mended:
            raise AnswerInvalid(
                f"the answer is not what was asked for, and was no better the second time: {self.problem}; "
                "a simpler type, or another model, may help"
            )
        return None
