"""What ends when a host or a container stands still, on the real engine."""

from __future__ import annotations

import asyncio
import time

import docker

from rlm_kernel.events import SandboxStarted
from rlm_kernel.sandbox.spec import Carrier
from tests.docker.conftest import OpenSession
from tests.support.sinks import Events

LEASE = 2.0


async def test_a_paused_container_is_lost(
    open_test_session: OpenSession, engine: docker.APIClient, events: Events, carrier: Carrier
) -> None:
    """In the middle of a cell the run learns that its container stands still, and the container is removed."""
    async with open_test_session(carrier=carrier, lease=LEASE) as session:
        cell = asyncio.ensure_future(session.run_cell("while True: pass", turn=1))
        await asyncio.sleep(0.1)
        engine.pause(events.of(SandboxStarted)[0].container)
        result = await asyncio.wait_for(cell, 10)
        assert result.ename == "SandboxLost"
        assert "has not answered" in str(result.evalue)


async def test_a_session_outlives_many_leases(open_test_session: OpenSession, carrier: Carrier) -> None:
    """Idle, in a cell that writes a lot, and with a host that is busy for most of a lease, a session is kept."""
    async with open_test_session(carrier=carrier, lease=LEASE) as session:
        await asyncio.sleep(LEASE * 1.5)
        result = await session.run_cell(
            f"import time\nend = time.monotonic() + {LEASE} * 1.5\nwhile time.monotonic() < end: print('x' * 1000)",
            turn=1,
        )
        assert result.status == "ok"
        time.sleep(LEASE * 0.6)
        assert (await session.run_cell("1", turn=2)).status == "ok"


async def test_a_host_that_stands_still_loses_its_container(
    open_test_session: OpenSession, engine: docker.APIClient, events: Events, carrier: Carrier
) -> None:
    """When nothing was heard of the host for the time of the lease, the container ends, whatever its cell does."""
    async with open_test_session(carrier=carrier, lease=LEASE) as session:
        cell = asyncio.ensure_future(session.run_cell("while True: pass", turn=1))
        await asyncio.sleep(0.1)
        started = time.monotonic()
        engine.wait(events.of(SandboxStarted)[0].container, timeout=30)  # the loop is blocked meanwhile
        assert time.monotonic() - started > LEASE / 2
        assert (await cell).ename == "SandboxLost"
