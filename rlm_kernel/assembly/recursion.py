"""Recursion: the models behind `rlm_query`, each of which is a session of its own with a controller of its own."""

from __future__ import annotations

import time
from dataclasses import replace

import msgspec

from rlm_kernel.assembly.contexts import store_context, summary
from rlm_kernel.assembly.place import Place, open_controller
from rlm_kernel.assembly.run import Run
from rlm_kernel.bridge import Models as Offered
from rlm_kernel.errors import BudgetExceeded
from rlm_kernel.events import Notice
from rlm_kernel.models.model import Completion, Model, ModelRequest
from rlm_kernel.types import Message, Usage

LONGEST_QUESTION = 4_000
"""Characters of a prompt without a context of its own that still is the question; what is longer is only pointed to."""

_POINTER = (
    "The task is the context itself: `context` holds both what is asked and the text that it is asked about. "
    "Find out what is asked, often at its beginning or its end, and answer that."
)
_WAY_OUT = "Ask for less, or for fewer at once, or allow sessions more with --child-share."
_PARTIAL = "a session gave its best answer so far: {reason}"


def children(place: Place) -> Offered:
    """Return what the cells of the session at `place` may call as sessions, by the names that they know."""
    models = place.models
    if place.seat.depth < place.settings.max_depth:
        names = {None: False, models.sub.name: True, models.root.name: False}
        return {asked: ChildSession(place, sub_leads=sub_leads) for asked, sub_leads in names.items()}
    if place.settings.at_max_depth == "plain":
        plain = PlainCall(place, models.sub)
        return {None: plain, models.sub.name: plain, models.root.name: plain}
    return {}


class ChildSession:
    """A model whose every answer is that of a session of its own, in its own container, one level below `place`."""

    def __init__(self, place: Place, *, sub_leads: bool) -> None:
        self._place = place
        self._sub_leads = sub_leads

    @property
    def name(self) -> str:
        """Its root model's name."""
        models = self._place.models
        return models.sub.name if self._sub_leads else models.root.name

    async def complete(self, request: ModelRequest) -> Completion:
        """Wait for a seat, then have a session answer; its usage is that of its own calls, so here it is none.

        Raise an `RlmKernelError`. After an error or a cancel its recording has ended, as have the sessions below it,
        and its container is on its way out.
        """
        budget = self._place.models.budget
        budget.take_subcall()
        async with self._place.seat.below() as seat:
            place = self._place.below(request.call, seat, sub_leads=self._sub_leads)
            try:
                return await self._answer(place, request)
            except BudgetExceeded as error:
                if budget.spent is not None:
                    raise
                raise BudgetExceeded(error.reason, limit=error.limit, way_out=_WAY_OUT, too_large=True) from error

    async def aclose(self) -> None:
        """Close nothing: a session ends with its answer."""

    async def _answer(self, place: Place, request: ModelRequest) -> Completion:
        started = time.monotonic()
        question, context = _task(request)
        stored = await store_context(place.store, context, place.settings.memory)
        run = Run(place.run, place.own_sink, place.models, stored, started, place.tools)
        run.parent, run.depth = self._place.run, place.seat.depth
        with run.recorded(question, place.settings):
            async with open_controller(place, run, children(place)) as (controller, cells):
                outcome = await controller.answer(
                    question, summary(stored, cells.session.ready, place.tools.described())
                )
            run.answered(outcome.status, outcome.answer, outcome.reason)
        return Completion(
            text=outcome.answer,
            finish_reason="stop",
            usage=Usage(),
            served_by=self.name,
            note=_PARTIAL.format(reason=outcome.reason) if outcome.status == "partial" else "",
        )


def _task(request: ModelRequest) -> tuple[str, str | msgspec.Raw]:
    """Return a request's question and context; a prompt without a context is both, or the context alone if long."""
    prompt = request.messages[0].content
    if request.context is not None:
        return prompt, request.context
    return prompt if len(prompt) <= LONGEST_QUESTION else _POINTER, prompt


class PlainCall:
    """A model that stands in for sessions at the depth limit: one question to `model`, with the context in it."""

    def __init__(self, place: Place, model: Model) -> None:
        self._place = place
        self._model = model
        self._said = False

    @property
    def name(self) -> str:
        """The model's name."""
        return self._model.name

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer with one call, and say so: to who asks each time, in the recording once."""
        deepest = self._place.settings.max_depth
        note = f"no session may be deeper than {deepest}, so one plain call of a model answers in its place"
        if not self._said:
            self._said = True
            self._place.own_sink.emit(Notice(message=note))
        prompt, context = request.messages[0].content, request.context
        if context is not None:
            prompt = f"{prompt}\n\n{context if isinstance(context, str) else bytes(context).decode()}"
        completion = await self._model.complete(replace(request, messages=(Message("user", prompt),), context=None))
        return replace(completion, note=note)

    async def aclose(self) -> None:
        """Close nothing: the model is the session's."""
