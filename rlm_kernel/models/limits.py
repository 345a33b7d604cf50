"""A limit on the calls that run at once."""

from __future__ import annotations

import asyncio

from rlm_kernel.models.model import Completion, Model, ModelRequest


class Limited:
    """Lets a call start when `limiter`, which other models may share, has room."""

    def __init__(self, model: Model, limiter: asyncio.Semaphore) -> None:
        self._model = model
        self._limiter = limiter

    @property
    def name(self) -> str:
        """The wrapped model's name."""
        return self._model.name

    async def complete(self, request: ModelRequest) -> Completion:
        """Wait for room, then answer; a cancel while waiting takes no room."""
        async with self._limiter:
            return await self._model.complete(request)

    async def aclose(self) -> None:
        """Close the wrapped model."""
        await self._model.aclose()
