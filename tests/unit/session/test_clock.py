"""Promises of the time that a cell may take."""

from __future__ import annotations

import asyncio

from rlm_kernel.session.clock import CellClock


async def test_paused_time_does_not_count() -> None:
    """However often and however nested it is paused, only the time outside of that counts; afterwards nothing comes."""
    over, loop = asyncio.Event(), asyncio.get_running_loop()
    begun = loop.time()
    with CellClock(0.2, over.set) as clock:
        with clock.paused(), clock.paused():
            await asyncio.sleep(0.3)
        with clock.paused():
            await asyncio.sleep(0.3)
        assert not over.is_set()
        await asyncio.wait_for(over.wait(), 5)
        assert loop.time() - begun >= 0.78
    over.clear()
    with CellClock(0.01, over.set) as clock, clock.paused():
        pass
    with CellClock(0.01, over.set):
        pass
    await asyncio.sleep(0.05)
    assert not over.is_set()
