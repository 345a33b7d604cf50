"""Models that wait for their turn: at what a run may have at once, and at the gate before a provider."""

from __future__ import annotations

from collections.abc import Hashable

from rlm_kernel.errors import ModelError
from rlm_kernel.models.budgeted import guess_request
from rlm_kernel.models.gate import Gate
from rlm_kernel.models.model import Completion, Model, ModelRequest, Wrapper

_REPLY_TOKENS = 500
"""What a reply is thought to take until it is there, if the request has no limit of its own that is lower."""


class Limited(Wrapper):
    """Lets a call start when `gate`, which other models may share, has room for one of `lane`."""

    def __init__(self, model: Model, gate: Gate, lane: Hashable) -> None:
        super().__init__(model)
        self._gate = gate
        self._lane = lane

    async def complete(self, request: ModelRequest) -> Completion:
        """Wait for room, then answer; a cancel while waiting takes no room."""
        call = await self._gate.enter(self._lane, request.queued)
        try:
            return await self._model.complete(request)
        finally:
            self._gate.leave(call)


class Gated(Wrapper):
    """Sends each attempt through the gate before the provider, and tells the gate what came of it.

    A call waits in `lane`. Where the provider asked for more than `patience` seconds it fails at once instead.
    """

    def __init__(self, model: Model, gate: Gate, lane: Hashable, *, patience: float) -> None:
        super().__init__(model)
        self._gate = gate
        self._lane = lane
        self._patience = patience

    async def complete(self, request: ModelRequest) -> Completion:
        """Wait for this lane's turn, then answer; see `Gate.enter`."""
        gate = self._gate
        counts = gate.counts_tokens
        thought = _tokens(request) if counts else 0.0
        call = await gate.enter(self._lane, request.queued, tokens=thought, patience=self._patience)
        try:
            completion = await self._model.complete(request)
        except BaseException as error:  # whatever it is, the call is over
            used = error.usage if isinstance(error, ModelError) else None
            gate.leave(call, tokens_over=0.0 if used is None else used.total_tokens - thought, error=error)
            raise
        gate.leave(call, tokens_over=completion.usage.total_tokens - thought if counts else 0.0)
        return completion


def _tokens(request: ModelRequest) -> float:
    limit = request.max_output_tokens
    return guess_request(request) + (_REPLY_TOKENS if limit is None else min(limit, _REPLY_TOKENS))
