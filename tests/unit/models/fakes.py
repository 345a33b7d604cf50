"""A hand-written `Model` whose replies are listed beforehand."""

from __future__ import annotations

import asyncio

from rlm_kernel.models.model import Completion, ModelRequest
from rlm_kernel.types import Message, Usage

ASK = ModelRequest(messages=(Message("user", "hello"),))
USED = Usage(calls=1, input_tokens=1000, cached_input_tokens=400, output_tokens=100, cost_usd=None)


class ListedModel:
    """Replies in turn: raises what is an exception, sleeps for what is a number and goes on, else says the text."""

    def __init__(self, *replies: str | float | Exception, name: str = "fake:listed", served_by: str = "listed") -> None:
        self._replies = list(replies)
        self._name = name
        self._served_by = served_by
        self.calls = 0
        self.cancelled = 0
        self.closed = 0

    @property
    def name(self) -> str:
        """The name given."""
        return self._name

    async def complete(self, request: ModelRequest) -> Completion:
        """Do what the list says next."""
        self.calls += 1
        reply = self._replies.pop(0)
        if isinstance(reply, float):
            try:
                await asyncio.sleep(reply)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            reply = self._replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return Completion(text=str(reply), finish_reason="stop", usage=USED, served_by=self._served_by)

    async def aclose(self) -> None:
        """Count."""
        self.closed += 1
