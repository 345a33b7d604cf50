"""A kernel on its way up, the first one of a sandbox or one after a restart."""

from __future__ import annotations

import asyncio
from typing import Any

from rlm_kernel.errors import KernelFailed, SandboxLost
from rlm_kernel.events import KernelReady
from rlm_kernel.stream import Endpoint

FIRST_DEADLINE = 60.0
RESTART_DEADLINE = 15.0
"""Seconds that a new kernel in a running container has; a new container takes over then."""
RELAY_DEADLINE = 5.0
"""Seconds in which the relay says that it has carried out a restart; it kills every other process for that."""


class KernelStart:
    """Waits for a kernel, which `outcome` says is ready or failed, and for the relay's word that it carries it out."""

    def __init__(self, endpoint: Endpoint, deadline: float, *, acknowledged: bool = True) -> None:
        loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[KernelReady | KernelFailed] = loop.create_future()
        self._endpoint = endpoint
        self._begun = loop.time()
        self._deadline = deadline
        self._acknowledged: asyncio.Future[None] = loop.create_future()
        if acknowledged:
            self.acknowledge()

    def acknowledge(self) -> None:
        """Take the relay's word that the kernel before is gone; safe to call twice."""
        if not self._acknowledged.done():
            self._acknowledged.set_result(None)

    def fail(self, why: str) -> None:
        """Give up."""
        self.outcome.set_result(KernelFailed(why))

    async def ready(self) -> KernelReady:
        """Wait until the kernel is ready. Raise `KernelFailed`, or why the sandbox can't be used."""
        if not await self._happens(RELAY_DEADLINE, self._acknowledged, self.outcome):
            raise SandboxLost(f"the container did not answer for {RELAY_DEADLINE:.0f} s when its kernel was to end")
        if not await self._happens(self._deadline, self.outcome):
            raise KernelFailed(
                f"the kernel did not start within {self._deadline:.0f} s: give the session more memory or CPU"
            )
        outcome = self.outcome.result()
        if isinstance(outcome, KernelFailed):
            raise outcome
        return outcome

    async def _happens(self, deadline: float, *events: asyncio.Future[Any]) -> bool:
        """Wait for one of `events`; False if none comes within `deadline` seconds from the start's beginning."""
        left = self._begun + deadline - asyncio.get_running_loop().time()
        lost = self._endpoint.lost
        await asyncio.wait({*events, lost}, timeout=max(0.0, left), return_when=asyncio.FIRST_COMPLETED)
        happened = any(event.done() for event in events)
        if lost.done() and not happened:
            raise lost.result()
        return happened
