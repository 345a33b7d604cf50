"""Seats: how many sessions run at once, where a session that waits for those below it does not count."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rlm_kernel.loops import soon


class _Ticket:
    """A place in the queue, then a seat: `given` once it is one."""

    __slots__ = ("given", "gone", "loop", "order", "over")

    def __init__(self, order: tuple[bool, int, int]) -> None:
        self.order = order
        self.loop = asyncio.get_running_loop()
        self.over = asyncio.Event()
        self.given = False
        self.gone = False

    def __lt__(self, other: _Ticket) -> bool:
        return self.order < other.order

    def wake(self) -> bool:
        """Wake who waits; False if its event loop is closed."""
        return soon(self.loop, self.over.set)


class Seats:
    """As many seats as sessions may run at once, for the sessions of any runs, threads and event loops.

    A session gives its seat back while sessions below it, which its cell called, are under way, and has it again before
    the last of their answers is delivered. Of those that wait, whoever had begun goes first, then the deepest, then
    whoever came first. So whatever waits for sessions below has one of them running, or next in line: nothing waits for
    ever, and the sessions that have begun are at most the seats times the greatest depth.
    """

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._free = count
        self._queue: list[_Ticket] = []
        self._numbers = itertools.count()

    def join(self, depth: int, *, begun: bool) -> _Ticket:
        """Queue for a seat."""
        with self._lock:
            ticket = self._push(depth, begun=begun)
            self._give()
        return ticket

    def swap(self, held: _Ticket | None, depth: int) -> _Ticket:
        """Queue for a seat at `depth`, then leave `held`, so that nobody who came later gets that one."""
        with self._lock:
            ticket = self._push(depth, begun=False)
            if held is not None:
                self._drop(held)
            self._give()
        return ticket

    def leave(self, ticket: _Ticket) -> None:
        """Give a seat back, or a place in the queue."""
        with self._lock:
            self._drop(ticket)
            self._give()

    def _push(self, depth: int, *, begun: bool) -> _Ticket:
        ticket = _Ticket((not begun, -depth, next(self._numbers)))
        heapq.heappush(self._queue, ticket)
        return ticket

    def _drop(self, ticket: _Ticket) -> None:
        ticket.gone = True
        self._free += ticket.given
        ticket.wake()

    def _give(self) -> None:
        while self._queue and (self._free or self._queue[0].gone):
            ticket = heapq.heappop(self._queue)
            if not ticket.gone:
                ticket.given = ticket.wake()
                self._free -= ticket.given


class Seat:
    """The seat of one session, at `depth` below its run's own; to be used in one event loop.

    Its ticket is None while it needs none: before it begins, and while sessions below are under way.
    """

    def __init__(self, seats: Seats, depth: int = 0) -> None:
        self.depth = depth
        self._seats = seats
        self._ticket: _Ticket | None = None
        self._wanted = False
        self._below = 0
        self._alone = asyncio.Event()
        self._alone.set()

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Have the seat in the block, once it is free. Calls for sessions below may end after the block."""
        self._wanted = True
        self._ticket = self._seats.join(self.depth, begun=False)
        try:
            await self._again()
            yield
        finally:
            self._leave()

    @asynccontextmanager
    async def below(self) -> AsyncIterator[Seat]:
        """Yield the seat of a session below, once that has it; have this one again at the end of the last of them.

        The block's error is raised then too, but a cancel at once: `ready` tells when this session may go on after one.
        """
        child = Seat(self._seats, self.depth + 1)
        child._wanted = True
        child._ticket = self._seats.swap(self._ticket, child.depth)
        self._ticket = None
        self._below += 1
        self._alone.clear()
        try:
            try:
                await child._again()
                yield child
            finally:
                self._below -= 1
                if not self._below:
                    if self._wanted and self._ticket is None:  # before the child's seat is free, to be who gets it
                        self._ticket = self._seats.join(self.depth, begun=True)
                    self._alone.set()
                child._leave()
        except Exception:  # whatever the session below failed with, this one goes on, and for that has to sit
            await self._again()
            raise
        await self._again()

    @property
    def sessions_below(self) -> int:
        """How many calls for sessions below are under way, those included that wait for a seat."""
        return self._below

    async def ready(self) -> None:
        """Wait until nothing below is under way and the seat, which was taken before, is had again."""
        while not (self._ticket is not None and self._ticket.given):
            await self._alone.wait()
            await self._again()

    async def _again(self) -> None:
        """Wait for the seat, unless sessions below are under way, or are again by then."""
        if self._ticket is not None:
            await self._ticket.over.wait()

    def _leave(self) -> None:
        self._wanted = False
        if self._ticket is not None:
            self._seats.leave(self._ticket)
            self._ticket = None
