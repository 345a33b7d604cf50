"""An event loop in a thread of its own, for callers that are not async or whose own loop is to be blocked."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
_log = logging.getLogger(__name__)


class LoopThread:
    """Runs coroutines until it is closed; the interpreter does not end before it has."""

    def __init__(self, at_end: Callable[[], Awaitable[None]] | None = None) -> None:
        """Start the thread; what `at_end` returns is awaited when it is closed."""
        self._at_end = at_end
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._closing: asyncio.Event
        self._thread = threading.Thread(target=self._run, name="rlm")
        self._thread.start()
        self._started.wait()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what `coroutine` gives. Ctrl-C, or what another signal raises, cancels it and is then raised on."""
        tasks: list[asyncio.Task[T]] = []
        with _keyboard_interrupts():
            try:
                self._loop.call_soon_threadsafe(lambda: tasks.append(self._loop.create_task(coroutine)))
                self._call(_ended(tasks))
            except BaseException:  # what a signal raises too: the run is ended first
                self._cancel(tasks)
                coroutine.close()  # if it did not come to begin
                raise
            return tasks[0].result()

    def close(self, *, wait: bool) -> None:
        """Let the thread end, and wait for that or not."""
        self._loop.call_soon_threadsafe(self._closing.set)
        if wait:
            self._thread.join()

    def _cancel(self, tasks: Sequence[asyncio.Task[Any]]) -> None:
        """Cancel what was begun and wait for its clean-up, which is bounded in time, whatever else comes meanwhile."""
        while True:
            try:
                self._loop.call_soon_threadsafe(_cancel_once, tasks)
                self._call(_ended(tasks))
            except BaseException:  # noqa: BLE001 - the first one is raised on in the end
                _log.warning("still removing the container; this can take up to a minute if the engine hangs")
            else:
                return

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        self._started.set()
        await self._closing.wait()
        if self._at_end is not None:
            await self._at_end()


def _cancel_once(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        if not task.cancelling():  # a second cancel would end its clean-up
            task.cancel()


async def _ended(tasks: Sequence[asyncio.Task[Any]]) -> None:
    if tasks:
        await asyncio.wait(tasks)


@contextmanager
def _keyboard_interrupts() -> Iterator[None]:
    """Let Ctrl-C raise `KeyboardInterrupt`: a running loop's own handler would wait for the loop, which is blocked."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
