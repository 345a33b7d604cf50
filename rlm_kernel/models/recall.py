"""Answers that are there already, or on their way, in place of asking again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rlm_kernel.models.flights import Flights
from rlm_kernel.models.model import Completion, Model, ModelRequest, Wrapper
from rlm_kernel.models.store import AnswerStore, answer_again, now, request_key
from rlm_kernel.types import JSON, Origin


@dataclass(slots=True, kw_only=True)
class Recall:
    """What the models of a session know: the answers on disk, those under way, and the session's own name.

    `store` None: none are looked up; `writes`: new ones are kept; `flights` None: each call is made for itself.
    What `is_private` is not stored.
    """

    store: AnswerStore | None = None
    writes: bool = False
    flights: Flights | None = None
    run: str = ""
    is_private: Callable[[Completion], bool] = lambda _: False

    @property
    def is_on(self) -> bool:
        """Whether any call may get another's answer."""
        return self.store is not None or self.flights is not None


class Recalling(Wrapper):
    """Gives the answer of an identical call, of this run or an earlier one, if `recall` has it or it is under way.

    Only whole replies are kept: those that ended by themselves. A request that is streamed is always made.
    """

    def __init__(self, model: Model, recall: Recall, identity: Mapping[str, JSON]) -> None:
        """`identity` tells the model behind `model` from every other one."""
        super().__init__(model)
        self._recall = recall
        self._identity = identity

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer one request, with `Completion.cached` if it was not asked for anew."""
        recall = self._recall
        if request.on_text is not None:
            return await self._model.complete(request)
        key = request_key(self._identity, request)
        if recall.store is not None and (known := recall.store.get(key)) is not None:
            return known
        if recall.flights is None:
            return await self._ask(key, request)
        joined = await recall.flights.join(key, lambda: self._ask(key, request), owner=self, run=recall.run)
        if joined.run is None:
            return joined.completion
        return answer_again(joined.completion, Origin(how="joined", run=joined.run, at=now()))

    async def _ask(self, key: str, request: ModelRequest) -> Completion:
        completion = await self._model.complete(request)
        recall = self._recall
        may_store = recall.store is not None and recall.writes and completion.finish_reason == "stop"
        if recall.store is not None and may_store and not recall.is_private(completion):
            await recall.store.put(key, recall.run, completion)
        return completion
