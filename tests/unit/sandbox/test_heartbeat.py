"""The heartbeat, over a real socket."""

from __future__ import annotations

import asyncio
import time

import pytest

from rlm_kernel.errors import SandboxLost
from rlm_kernel.sandbox.heartbeat import heartbeat
from tests.support.guest import Guest, guest_and_endpoint

LEASE = 0.8


async def answer_pings(guest: Guest) -> None:
    """Read, and answer what is a ping."""
    while not await guest.read_some():
        await guest.flush()


async def test_a_guest_that_answers_is_kept() -> None:
    """For many beats nothing happens to a guest that answers, and its pings are all answered."""
    async with guest_and_endpoint() as (guest, endpoint):
        answering = asyncio.ensure_future(answer_pings(guest))
        with heartbeat(endpoint, LEASE):
            await asyncio.sleep(LEASE * 2)
            assert not endpoint.lost.done()
            assert endpoint.unanswered <= 1
        answering.cancel()


async def test_a_guest_that_stands_still_is_lost() -> None:
    """A guest that never answers is given up within a lease, with words that say so."""
    async with guest_and_endpoint() as (_, endpoint):
        with heartbeat(endpoint, LEASE):
            started = time.monotonic()
            error = await asyncio.wait_for(endpoint.lost, 10)
            assert isinstance(error, SandboxLost)
            assert "has not answered" in str(error)
            assert time.monotonic() - started > LEASE / 4


async def test_a_host_that_stood_still_does_not_blame_the_guest() -> None:
    """After the host's own loop was blocked for several leases, a guest that answers is still there."""
    async with guest_and_endpoint() as (guest, endpoint):
        answering = asyncio.ensure_future(answer_pings(guest))
        with heartbeat(endpoint, LEASE):
            for _ in range(3):
                time.sleep(LEASE)  # the loop itself is to be blocked
                await asyncio.sleep(LEASE / 8)
            await asyncio.sleep(LEASE)
            assert not endpoint.lost.done()
        answering.cancel()


async def test_the_end_of_the_block_ends_the_beats() -> None:
    """Afterwards nothing is sent or judged any more."""
    async with guest_and_endpoint() as (_, endpoint):
        with heartbeat(endpoint, LEASE):
            pass
        sent = endpoint.unanswered
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(endpoint.lost), LEASE)
        assert endpoint.unanswered == sent == 1
