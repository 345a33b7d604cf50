"""`RunHandle`: a run that goes on by itself, to be watched, awaited or cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Generic, Self, TypeVar

from rlm_kernel.assembly.asking import OpenRun
from rlm_kernel.assembly.result import RunResult
from rlm_kernel.assembly.thread import LoopThread, cancel_once
from rlm_kernel.budget import Amounts, Budget
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
        running: Callable[[Callable[[OpenRun], None]], Coroutine[Any, Any, RunResult[T]]],
        begin: Callable[[Coroutine[Any, Any, RunResult[T]]], asyncio.Task[RunResult[T]]],
    ) -> None:
        """`running` tells what it is given of the run once that is open; `begin` makes it a task."""
        self._following = following
        self._opened: OpenRun | None = None
        self._task = begin(running(self._open))
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

    def remaining(self) -> Amounts | None:
        """Return what the run may still use; None before its session is open."""
        return None if self._opened is None else self._opened.budget.remaining()

    @property
    def budget(self) -> Budget | None:
        """What the run may use; it tells what was used, and what a call would take. None before its session is open."""
        return None if self._opened is None else self._opened.budget

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

    def _open(self, opened: OpenRun) -> None:
        self._opened = opened


class RunInThread(Generic[T]):
    """A run for code that is not async: `with rlm.start_in_thread(question, context) as run`.

    `for event in run` yields what `async for` does. The run is cancelled when the block ends first.
    """

    def __init__(
        self, start: Callable[[], RunHandle[T]], in_thread: Callable[[], AbstractContextManager[LoopThread]]
    ) -> None:
        """`in_thread` gives the thread to run in, for a block."""
        self._start = start
        self._in_thread = in_thread
        self._thread: LoopThread
        self._opened: ExitStack
        self._run: RunHandle[T]

    def __enter__(self) -> Self:
        async def start() -> RunHandle[T]:
            return self._start()

        with ExitStack() as stack:
            self._thread = stack.enter_context(self._in_thread())
            self._run = self._thread.run(start())
            self._opened = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._opened:
            self._thread.run(self._run.__aexit__(*exc_info))

    def __iter__(self) -> Iterator[AnyEvent]:
        events = aiter(self._run)

        async def next_one() -> AnyEvent | None:
            return await anext(events, None)

        while (event := self._thread.run(next_one())) is not None:
            yield event

    def result(self) -> RunResult[T]:
        """Wait for the run's result, as `RunHandle.result` does."""
        return self._thread.run(self._run.result())

    def remaining(self) -> Amounts | None:
        """Return what the run may still use, as `RunHandle.remaining` does."""
        return self._run.remaining()

    @property
    def budget(self) -> Budget | None:
        """What the run may use, as `RunHandle.budget`."""
        return self._run.budget

    def cancel(self) -> None:
        """Let the run end as cancelled, as `RunHandle.cancel` does; from any thread."""
        self._run.cancel()
