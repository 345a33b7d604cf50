"""Promises of the seats: the limit holds, nothing waits for ever, and who waits for sessions below does not count."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_kernel.session.seats import Seat, Seats


@dataclass
class Node:
    """A session to be: what it does before and after it asks those below, and when it is cancelled."""

    before: int
    after: int
    fails: bool
    cancelled_after: int | None
    below: list[list[Node]] = field(default_factory=list)

    @property
    def levels(self) -> int:
        """How many levels of sessions there are, this one's included."""
        return 1 + max((node.levels for batch in self.below for node in batch), default=0)


leaves = st.builds(
    Node,
    before=st.integers(0, 3),
    after=st.integers(0, 3),
    fails=st.booleans(),
    cancelled_after=st.one_of(st.none(), st.integers(0, 12)),
)
trees = st.recursive(
    leaves,
    lambda below: st.builds(
        Node,
        before=st.integers(0, 3),
        after=st.integers(0, 3),
        fails=st.booleans(),
        cancelled_after=st.one_of(st.none(), st.integers(0, 12)),
        below=st.lists(st.lists(below, min_size=1, max_size=4), min_size=1, max_size=2),
    ),
    max_leaves=25,
)


class World:
    """Runs trees of sessions and counts those that run, and those that have begun."""

    def __init__(self, count: int) -> None:
        self.seats = Seats(count)
        self.running = 0
        self.most_running = 0
        self.begun = 0
        self.most_begun = 0

    async def run(self, node: Node, seat: Seat) -> None:
        """Live as `node` says; the seat is taken."""
        self.begun += 1
        self.most_begun = max(self.most_begun, self.begun)
        try:
            await self._work(node.before)
            for batch in node.below:
                await self._ask(batch, seat)
                await self._work(node.after)
        finally:
            self.begun -= 1
        if node.fails:
            raise RuntimeError("a session failed")

    async def _work(self, steps: int) -> None:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            for _ in range(steps + 1):
                await asyncio.sleep(0)
        finally:
            self.running -= 1

    async def _ask(self, batch: list[Node], seat: Seat) -> None:
        """Ask as a cell does: all at once, some cancelled at any moment, and go on when the seat is had again."""
        calls = [asyncio.ensure_future(self._call(node, seat)) for node in batch]
        try:
            for node, call in zip(batch, calls, strict=True):
                if node.cancelled_after is not None:
                    for _ in range(node.cancelled_after):
                        await asyncio.sleep(0)
                    call.cancel()
            await asyncio.wait(calls)
        finally:
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        await seat.ready()

    async def _call(self, node: Node, seat: Seat) -> None:
        async with seat.below() as child:
            await self.run(node, child)


@given(st.lists(trees, min_size=1, max_size=4), st.integers(1, 3))
@settings(max_examples=150)
def test_any_trees_of_sessions_end_within_the_limit(roots: list[Node], count: int) -> None:
    """Whatever sessions ask, fail or are cancelled: all end, no more run than there are seats, few have begun."""

    async def main() -> World:
        world = World(count)

        async def root(node: Node) -> None:
            seat = Seat(world.seats)
            async with seat.taken():
                await world.run(node, seat)

        async with asyncio.timeout(20):
            await asyncio.gather(*map(root, roots), return_exceptions=True)
            for _ in range(count):  # every seat is free again
                await asyncio.wait_for(world.seats.join(0, begun=False).over.wait(), 1)
        return world

    world = asyncio.run(main())
    assert world.most_running <= count
    assert world.most_begun <= count * max(node.levels for node in roots)
    assert (world.running, world.begun) == (0, 0)


async def test_twenty_at_once_three_deep_with_two_seats() -> None:
    """Twenty sessions, each with one below and one more below that: all end, two run at once, seven have begun."""

    def chain(levels: int) -> Node:
        return Node(1, 1, fails=False, cancelled_after=None, below=[[chain(levels - 1)]] if levels else [])

    world, root = World(2), Node(1, 1, fails=False, cancelled_after=None, below=[[chain(2) for _ in range(20)]])
    seat = Seat(world.seats)
    async with asyncio.timeout(20), seat.taken():
        await world.run(root, seat)
    assert (world.most_running, world.most_begun) == (2, 7)


@asynccontextmanager
async def queued(seats: Seats, depth: int, order: list[int], name: int) -> AsyncIterator[None]:
    """Have a session at `depth` in the queue while the block runs, which notes its name when it is its turn."""

    async def wait() -> None:
        seat = Seat(seats, depth)
        async with seat.taken():
            order.append(name)

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    yield
    await task


async def test_the_deepest_goes_first_and_then_the_first() -> None:
    """Among those that have not begun depth counts, and then who came first."""
    seats, order = Seats(1), list[int]()
    seat = Seat(seats)
    async with (
        queued(seats, 0, order, 0),
        seat.taken(),
        queued(seats, 1, order, 1),
        queued(seats, 2, order, 2),
        queued(seats, 1, order, 3),
        queued(seats, 2, order, 4),
    ):
        assert order == [0]
        seat._leave()
    assert order == [0, 2, 4, 1, 3]


async def test_a_cancelled_call_leaves_its_session_waiting_for_its_seat() -> None:
    """After a cancel the session above may go on only once it has its seat again, and it is the next one to get it."""
    seats, order = Seats(1), list[int]()
    seat = Seat(seats)
    asked = asyncio.Event()

    async def call() -> None:
        async with seat.below():
            asked.set()
            await asyncio.Event().wait()

    async with seat.taken():
        task = asyncio.ensure_future(call())
        await asked.wait()
        async with queued(seats, 5, order, 1):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await asyncio.wait_for(seat.ready(), 5)
            assert order == []
            seat._leave()
    assert order == [1]


async def test_who_has_gone_wants_no_seat_back() -> None:
    """Where a call outlives the block that had its session's seat, none is lost, then or when it is taken anew."""
    seats = Seats(1)
    seat, asked, end = Seat(seats), asyncio.Event(), asyncio.Event()

    async def call() -> None:
        async with seat.below():
            asked.set()
            await end.wait()

    for again in (False, True):
        asked.clear()
        end.clear()
        async with seat.taken():
            task = asyncio.ensure_future(call())
            await asked.wait()
        if again:
            taking = asyncio.ensure_future(seat.taken().__aenter__())
            await asyncio.sleep(0)
            end.set()
            await asyncio.wait_for(taking, 5)
            seat._leave()
        end.set()
        await asyncio.wait_for(task, 5)
        async with asyncio.timeout(5), Seat(seats).taken():
            pass


def test_threads_share_the_seats() -> None:
    """Sessions of several event loops keep to one limit, and one that closes with a session in the queue harms none."""
    seats, running, most = Seats(2), 0, 0
    lock = threading.Lock()

    async def session() -> None:
        nonlocal running, most
        seat = Seat(seats)
        for _ in range(20):
            async with seat.taken():
                with lock:
                    running += 1
                    most = max(most, running)
                try:
                    await asyncio.sleep(0.001)
                finally:
                    with lock:
                        running -= 1

    async def given_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.gather(session(), session()), 0.01)

    threads = [threading.Thread(target=lambda: asyncio.run(session())) for _ in range(4)]
    threads += [threading.Thread(target=lambda: asyncio.run(given_up()))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert most <= 2
