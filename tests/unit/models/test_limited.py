"""The limit on calls that run at once."""

from __future__ import annotations

import asyncio

import pytest

from rlm_kernel.models.gate import Gate
from rlm_kernel.models.limited import Limited
from rlm_kernel.models.model import Completion, ModelRequest
from rlm_kernel.models.turns import Rates
from tests.unit.models.fakes import ASK, ListedModel


class Held(ListedModel):
    """A model whose calls wait for `gate`, and which counts how many do."""

    def __init__(self) -> None:
        super().__init__(*["ok"] * 99)
        self.gate = asyncio.Event()
        self.running = 0

    async def complete(self, request: ModelRequest) -> Completion:
        """Wait, then reply."""
        self.running += 1
        try:
            await self.gate.wait()
            return await super().complete(request)
        finally:
            self.running -= 1


async def test_models_share_one_limit() -> None:
    """Two models on one limiter have together no more calls in flight than it allows, and all are answered."""
    gate = Gate("test", Rates(concurrency=3))
    first, second = Held(), Held()
    models = [Limited(first, gate, 1), Limited(second, gate, 2)]
    calls = [asyncio.ensure_future(model.complete(ASK)) for model in models for _ in range(5)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert first.running + second.running == 3
    first.gate.set()
    second.gate.set()
    assert len(await asyncio.gather(*calls)) == 10


async def test_a_cancelled_wait_takes_no_room() -> None:
    """A call that is cancelled while it waits, or while it runs, leaves the room to others."""
    held = Held()
    model = Limited(held, Gate("test", Rates(concurrency=1)), "lane")
    running = asyncio.ensure_future(model.complete(ASK))
    waiting = asyncio.ensure_future(model.complete(ASK))
    await asyncio.sleep(0)
    for task in (waiting, running):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    held.gate.set()
    async with asyncio.timeout(5):
        assert (await model.complete(ASK)).text == "ok"
