"""Hundreds of sessions one after another."""

from __future__ import annotations

import asyncio
import gc
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import docker
import psutil
import pytest

from rlm_kernel.sandbox.container import LABEL
from rlm_kernel.sandbox.owner import owner
from rlm_kernel.sandbox.spec import Carrier
from tests.docker.conftest import MIB, OpenSession
from tests.soak.conftest import Counted
from tests.support.fakes import FakeModel

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

SESSIONS = 500
WARM_UP = 30
IDLE = 50
IDLE_SECONDS = 70
"""Longer than a guest lives that is not pinged."""
CELL = "print(llm_query('how many?'), len(context)); FINAL(len(context))"


class Held(NamedTuple):
    """What this process holds, and what the engine holds for it."""

    memory: int
    blocks: int
    descriptors: int
    threads: int
    mounts: int
    containers: int


def held(engine: docker.APIClient) -> Held:
    """Count everything after a collection."""
    gc.collect()
    process = psutil.Process()
    return Held(
        memory=process.memory_full_info().uss,
        blocks=sys.getallocatedblocks(),
        descriptors=process.num_fds(),
        threads=process.num_threads(),
        mounts=len(Path("/proc/self/mountinfo").read_text().splitlines()),
        containers=len(engine.containers(all=True, filters={"label": [f"{LABEL}.owner={owner()}"]})),
    )


async def test_sessions_leave_nothing(
    open_test_session: OpenSession, engine: docker.APIClient, events: Counted
) -> None:
    """After hundreds of sessions on both carriers this process holds no more than after the first few."""
    carriers: tuple[Carrier, Carrier] = ("socket", "attach")
    warm = held(engine)
    for number in range(WARM_UP + SESSIONS):
        if number == WARM_UP:
            warm = held(engine)
        async with open_test_session(
            f"text {number}" * 1000, models={None: FakeModel(["many"])}, carrier=carriers[number % 2]
        ) as session:
            result = await session.run_cell(CELL, turn=1)
            assert result.final is not None
    after = held(engine)
    print(f"after {WARM_UP}: {warm}\nafter {SESSIONS} more: {after}")
    assert events.count["SubcallReplied"] == WARM_UP + SESSIONS
    assert after.containers == 0
    assert after.descriptors <= warm.descriptors + 2
    assert after.threads <= warm.threads + 8  # a thread of the pool starts when no other is free
    assert after.blocks <= warm.blocks + 10 * SESSIONS
    # Memory that was freed goes back to the system as the C library likes; Python's blocks are the finer measure.
    assert after.memory <= warm.memory + 16 * MIB


async def test_fifty_sessions_idle_at_once(open_test_session: OpenSession, engine: docker.APIClient) -> None:
    """Fifty sessions live side by side; after a while idle each still runs a cell on its own context."""
    async with AsyncExitStack() as stack:
        before = held(engine)
        sessions = [
            await stack.enter_async_context(open_test_session(f"text {number}", memory=256 * MIB))
            for number in range(IDLE)
        ]
        opened = held(engine)
        await asyncio.sleep(IDLE_SECONDS)
        results = await asyncio.gather(*(session.run_cell("FINAL(context)", turn=1) for session in sessions))
        after = held(engine)
    print(f"before: {before}\nopened: {opened}\nafter {IDLE_SECONDS} s idle: {after}")
    assert [result.final and result.final.value for result in results] == [f"text {number}" for number in range(IDLE)]
    assert opened.containers == after.containers == IDLE
    assert after.descriptors <= opened.descriptors + 2
    assert (after.memory - before.memory) / IDLE < MIB
