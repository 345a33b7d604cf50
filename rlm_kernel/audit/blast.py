"""Sets off a bomb in a session of its own, with a neighbour beside it whose cells are timed."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

from rlm_kernel.audit.bombs import Blast, Bomb
from rlm_kernel.audit.programs import printed, program
from rlm_kernel.errors import SandboxError
from rlm_kernel.kernel import CellResult
from rlm_kernel.session import Session

PAUSE = 0.1
"""Seconds between two cells of the neighbour."""
TRIES = 3
"""Cells that a session has, after a bomb, to show that it works; the first ones may still feel it."""

Open = Callable[[], AbstractAsyncContextManager[Session]]


async def explode(bomb: Bomb, open_one: Open, neighbour: Session, entries: int) -> Blast:
    """Run a bomb in the session that `open_one` opens and return what was seen; its context has so many entries."""
    gc.collect()
    before = _reset_peak()
    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(_watch(neighbour, over))
        try:
            result, error, usable = await _detonate(bomb, open_one, entries)
        finally:
            over.set()
    return Blast(
        result=result, error=error, usable=usable, slowest=watching.result(), grown=max(0, _memory("VmHWM") - before)
    )


async def _detonate(bomb: Bomb, open_one: Open, entries: int) -> tuple[CellResult | None, SandboxError | None, bool]:
    result = None
    try:
        async with open_one() as session:
            result = await session.run_cell(program(f"bombs/{bomb.name}"), turn=1)
            return result, None, await _is_usable(session, entries)
    except SandboxError as error:
        return result, error, False


async def _is_usable(session: Session, entries: int) -> bool:
    for _ in range(TRIES):
        result = await session.run_cell(program("usable"), turn=1)
        if result.status == "ok":
            return printed(result) == b"%d\n" % entries
    return False


async def _watch(neighbour: Session, over: asyncio.Event) -> float | None:
    """Run small cells until `over`; return how long the slowest took, or None if one did not do its part."""
    slowest, last = 0.0, 0
    while not over.is_set():
        began = time.monotonic()
        try:
            beats = int(printed(await neighbour.run_cell(program("beat"), turn=1)))
        except (SandboxError, ValueError):
            return None
        slowest = max(slowest, time.monotonic() - began)
        if last and beats != last + 1:
            return None
        last = beats
        with suppress(TimeoutError):
            async with asyncio.timeout(PAUSE):
                await over.wait()
    return slowest


def _reset_peak() -> int:
    """Let the peak of this process's memory start anew, and return the memory it has now, in bytes."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(name: str) -> int:
    """Return a figure of this process's memory in bytes; 0 where the system has no /proc."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return 0
