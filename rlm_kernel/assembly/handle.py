"""`RunHandle`: a run that goes on by itself, to be watched, awaited or cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Generic, Self, TypeVar

from rlm_kernel.assembly.result import RunResult
from rlm_kernel.assembly.thread import cancel_once
from rlm_kernel.errors import RunCancelled
from rlm_kernel.events import AnyEvent, Record
from rlm_kernel.recording import Following

T = TypeVar("T")


class RunHandle(Generic[T]):
    """A run under way, made by `RLM.start`.

    `async for event in run` yields every recorded event in order, from the first one on however late it begins, and
    ends with the run, however that ends. Any number of readers may do so at once, each at its own pace.

    Used with `async with`, it cancels the run when the block ends first.
    """

    def __init__(
        self,
        following: Following,
        running: Coroutine[Any, Any, RunResult[T]],
        begin: Callable[[Coroutine[Any, Any, RunResult[T]]], asyncio.Task[RunResult[T]]],
    ) -> None:
        self._following = following
        self._task = begin(running)
        self._task.add_done_callback(lambda _: following.end())
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        cancel_once([self._task])
        await asyncio.wait({self._task})

    def __aiter__(self) -> AsyncIterator[AnyEvent]:
        return self._events()

    async def _events(self) -> AsyncIterator[AnyEvent]:
        async for record in self._following.records():
            yield record.event

    def records(self) -> AsyncIterator[Record]:
        """Yield what `async for event in run` does, each event with its number, its time and its place in the tree."""
        return self._following.records()

    @property
    def done(self) -> bool:
        """Whether the run has ended."""
        return self._task.done()

    async def result(self) -> RunResult[T]:
        """Wait for the run's result; a cancel ends the waiting, not the run.

        Raise what `RLM.acompletion` raises, and `RunCancelled` after `cancel`.
        """
        await asyncio.wait({self._task})
        if self._task.cancelled():
            raise RunCancelled("the run was cancelled; its recording tells how far it came")
        return self._task.result()

    def cancel(self) -> None:
        """Let the run end as cancelled, its recording and its container too; `result` tells when it has.

        May be called from any thread, and more than once.
        """
        self._loop.call_soon_threadsafe(cancel_once, [self._task])
