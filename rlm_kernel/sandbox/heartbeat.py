"""Signs of life between host and guest: a host that stands still loses its guest, a guest that does is given up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from rlm_kernel.errors import SandboxLost
from rlm_kernel.stream import Endpoint

BEATS = 4
"""Pings in the time of a lease, so that a few may come late."""

SILENT = 2
"""Pings without an answer after which a guest is given up."""


@contextmanager
def heartbeat(endpoint: Endpoint, lease: float) -> Iterator[None]:
    """Ping the guest while the block runs, so that it keeps its lease of `lease` seconds.

    A guest that does not answer for three quarters of a lease is lost, with `SandboxLost`.
    """
    heart = _Heart(endpoint, lease / BEATS)
    heart.begin()
    try:
        yield
    finally:
        heart.end()


class _Heart:
    """One timer: each time it goes off the last pings are judged and the next one is sent."""

    def __init__(self, endpoint: Endpoint, every: float) -> None:
        self._endpoint = endpoint
        self._every = every
        self._loop = asyncio.get_running_loop()

    def begin(self) -> None:
        """Ping, and judge after a while."""
        self._endpoint.ping()
        self._timer = self._loop.call_later(self._every, self._judge)

    def end(self) -> None:
        """Stop; nothing is judged any more."""
        self._timer.cancel()

    def _judge(self) -> None:
        # What the guest said while this process stood still may not have been read yet.
        on_time = self._loop.time() < self._timer.when() + self._every / 2
        if on_time and self._endpoint.unanswered >= SILENT:
            self._endpoint.fail(
                SandboxLost(
                    f"the container has not answered for {SILENT * self._every:.0f} s or more: it is paused, "
                    "or its machine gives it no time"
                )
            )
            return
        self.begin()
