"""`Kept`: what outlives a single run."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from rlm_kernel.assembly.models import Clients
from rlm_kernel.assembly.parts import open_slots
from rlm_kernel.assembly.thread import cancel_once
from rlm_kernel.assembly.tools import checked_tools
from rlm_kernel.config import Settings
from rlm_kernel.sandbox.contexts import ContextStore
from rlm_kernel.session import Seats, SlotPool

T = TypeVar("T")


class Kept:
    """Stored contexts, seats, sandboxes started ahead, runs that go on by themselves, what ends behind an answer."""

    def __init__(self, settings: Settings, tools: Iterable[Callable[..., Any]] = ()) -> None:
        """Make the content store's folder. Raise `StorageError`, or `ConfigError` for what is no tool."""
        self.settings = settings
        self.tools = checked_tools(tools)
        self.store = ContextStore(settings.contexts_dir)
        self.seats = Seats(settings.max_sessions)
        self._open = AsyncExitStack()
        self._pool: tuple[asyncio.AbstractEventLoop, SlotPool] | None = None
        self._clients: tuple[asyncio.AbstractEventLoop, Clients] | None = None
        self._running: set[asyncio.Task[Any]] = set()
        self._ending: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Keep `settings.pool_size` sandboxes started ahead, and models' clients open, for runs of this event loop."""
        slots = await self._open.enter_async_context(open_slots(self.settings, self.settings.pool_size))
        clients = await self._open.enter_async_context(Clients(self.settings))
        loop = asyncio.get_running_loop()
        self._pool, self._clients = (loop, slots), (loop, clients)

    async def aclose(self) -> None:
        """Cancel what runs by itself in this event loop, and wait until nothing is left of it and of the pool."""
        cancel_once(_here(self._running))
        await _ended(self._running)
        self._pool = self._clients = None
        await self._open.aclose()
        await _ended(self._ending)

    async def slots(self, stack: AsyncExitStack) -> SlotPool:
        """Return the pool, if it is one of the running event loop, else one for this run alone."""
        if self._pool is not None and self._pool[0] is asyncio.get_running_loop():
            return self._pool[1]
        return await stack.enter_async_context(open_slots(self.settings))

    def under(self, settings: Settings) -> Kept:
        """Return the same for a run of other settings, which share the container's and the places'."""
        other = copy.copy(self)
        other.settings = settings
        return other

    @property
    def clients(self) -> Clients | None:
        """The models' clients that stay open, if they are those of the running event loop."""
        here = self._clients is not None and self._clients[0] is asyncio.get_running_loop()
        return self._clients[1] if here and self._clients is not None else None

    def begin(self, running: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Let a run go on by itself, until `aclose` at the latest."""
        return _held(running, self._running)

    def end(self, opened: AsyncExitStack) -> None:
        """Close what a run had opened, behind its back."""
        _held(opened.aclose(), self._ending)


def _held(coroutine: Coroutine[Any, Any, T], tasks: set[asyncio.Task[Any]]) -> asyncio.Task[T]:
    task = asyncio.create_task(coroutine)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task


def _here(tasks: set[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
    loop = asyncio.get_running_loop()
    return [task for task in tasks if task.get_loop() is loop]


async def _ended(tasks: set[asyncio.Task[Any]]) -> None:
    while here := _here(tasks):
        await asyncio.wait(here)
