"""The ladder: how a cell is brought to its end, each step with a deadline and recorded before it is taken."""

from __future__ import annotations

import asyncio
from typing import Any

from rlm_kernel.errors import SandboxLost
from rlm_kernel.events import CellInterrupted, EventSink, InterruptReason, InterruptStep
from rlm_kernel.guest.wire import Channel
from rlm_kernel.kernel.messages import control
from rlm_kernel.kernel.running import RunningCell
from rlm_kernel.stream import Endpoint

Stop = asyncio.Future[InterruptReason]
"""Done, with the reason, when the running cell is to end."""

SIGINT_DEADLINE = 0.9
CANCEL_DEADLINE = 0.5
"""Seconds that a cell has to end after each step; together with a restart's order they stay below two."""


async def wait_for_end(
    endpoint: Endpoint, running: RunningCell, sink: EventSink, time_limit: float | None, stop: Stop | None
) -> None:
    """Wait for the end of a cell that was sent; after `time_limit` seconds or on `stop`, ask it to end.

    A cell that is deaf to both ways to ask has not ended when this returns. The sandbox's end is the cell's too; raise
    why the stream was lost otherwise.
    """
    if await _ended(endpoint, running, time_limit, stop):
        return
    running.interrupted = stop.result() if stop is not None and stop.done() else "timed_out"
    record(running, sink, "sigint")
    endpoint.send(Channel.CONTROL, control("interrupt"))
    if await _ended(endpoint, running, SIGINT_DEADLINE):
        return
    if running.settle():
        return
    record(running, sink, "cancel")
    endpoint.send(Channel.CONTROL, control("cancel", cell=running.msg_id))
    if not await _ended(endpoint, running, CANCEL_DEADLINE):
        running.settle()


def record(running: RunningCell, sink: EventSink, step: InterruptStep) -> None:
    """Record a step, if the cell was to end; else its kernel is lost for another reason."""
    if running.interrupted is not None:
        sink.emit(CellInterrupted(cell=running.cell, step=step, reason=running.interrupted, seconds=running.seconds))


async def _ended(endpoint: Endpoint, running: RunningCell, limit: float | None, stop: Stop | None = None) -> bool:
    """Wait for the cell's end; False when `limit` seconds are over or `stop` is done."""
    ends: set[asyncio.Future[Any]] = {running.ended, endpoint.lost}
    await asyncio.wait(ends if stop is None else {*ends, stop}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
    if endpoint.lost.done() and not running.ended.done():
        error = endpoint.lost.result()
        if not isinstance(error, SandboxLost):
            raise error
        running.sandbox_lost = error
        running.end()
    return running.ended.done()
