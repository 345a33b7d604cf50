"""Models that keep to a budget: sub-calls are counted once, and each attempt is reserved and settled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import msgspec

from rlm_kernel.budget import Budget, guess_message, guess_tokens
from rlm_kernel.errors import ModelError
from rlm_kernel.models.model import Completion, Model, ModelRequest, OnText, TextDelta, Wrapper

_CUT = "a reply was cut off, as the budget had no more output tokens left for it"


class Counted(Wrapper):
    """Lets a call begin while the budget allows one, and ends it with the budget's time; `is_sub` calls are counted."""

    def __init__(self, model: Model, budget: Budget, *, is_sub: bool) -> None:
        super().__init__(model)
        self._budget = budget
        self._is_sub = is_sub

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer one request. Raise `BudgetExceeded` if the budget allows none, or its time is over before the reply.

        What is over is the time for ordinary calls; a request for the best answer has some more.
        """
        if self._is_sub:
            self._budget.take_subcall()
        async with self._budget.in_time():
            return await self._model.complete(request)


class Budgeted(Wrapper):
    """Reserves each attempt in `budget`, sends the maximum output that this allows, and settles what was used.

    A failed attempt counts with what its error says it used, and one that was sent and may have been charged for all
    the same with its whole estimate: after a cancel, a timeout, a broken connection, an unreadable reply, or a
    streamed reply that broke off.
    """

    def __init__(self, model: Model, budget: Budget, *, is_sub: bool) -> None:
        super().__init__(model)
        self._budget = budget
        self._is_sub = is_sub

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer one request, after calls in flight that hold the room for it. Raise `BudgetExceeded`."""
        budget = self._budget
        call = budget.call(self.name, guess_request(request), request.max_output_tokens, is_sub=self._is_sub)
        sending = _Sending(request)
        with request.queued():
            reservation = await budget.admit(call)
        most = reservation.output_tokens if budget.bounds_calls else request.max_output_tokens
        try:
            sent = replace(request, max_output_tokens=most, queued=sending.queued, on_text=sending.on_text)
            completion = await self._model.complete(sent)
        except ModelError as error:
            if error.usage is not None:
                reservation.settle(error.usage)
            elif error.may_be_charged or sending.heard:
                reservation.keep()
            else:
                reservation.release()
            raise
        except BaseException:  # a cancel, which says nothing of what the provider has done by then
            if sending.waits:
                reservation.release()
            else:
                reservation.keep()
            raise
        reservation.settle(completion.usage, guess_tokens([completion.text]))
        if completion.finish_reason == "length" and reservation.output_tokens < call.output_tokens:
            return replace(completion, note=_CUT)
        return completion


class _Sending:
    """Knows whether a call waits for its turn, so that nothing of it was sent, and whether its reply has begun."""

    def __init__(self, request: ModelRequest) -> None:
        self._queued = request.queued
        self._on_text = request.on_text
        self.waits = self.heard = False

    @property
    def on_text(self) -> OnText | None:
        """What to tell of pieces of the reply."""
        return None if self._on_text is None else self._hear

    def _hear(self, piece: TextDelta) -> None:
        self.heard = True
        if self._on_text is not None:
            self._on_text(piece)

    @contextmanager
    def queued(self) -> Iterator[None]:
        self.waits = True
        with self._queued():
            yield
        self.waits = False


def guess_request(request: ModelRequest) -> int:
    """Return how many input tokens `request` takes, rather too many than too few."""
    tools = (msgspec.json.encode(tool).decode() for tool in request.tools)
    return guess_tokens(tools) + sum(map(guess_message, request.messages))
