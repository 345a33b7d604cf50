"""An event loop in a thread of its own, for callers that are not async or whose own loop is to be blocked."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

T = TypeVar("T")
_Wait = Callable[[Future[None]], None]
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
        with _signals() as wait:
            try:
                self._loop.call_soon_threadsafe(lambda: tasks.append(self._loop.create_task(coroutine)))
                wait(self._ended(tasks))
            except BaseException:  # what a signal raises too: the run is ended first
                self._cancel(tasks, wait)
                coroutine.close()  # if it did not come to begin
                raise
            return tasks[0].result()

    def close(self, *, wait: bool) -> None:
        """Let the thread end, and wait for that or not."""
        self._loop.call_soon_threadsafe(self._closing.set)
        if wait:
            self._thread.join()

    def _cancel(self, tasks: Sequence[asyncio.Task[Any]], wait: _Wait) -> None:
        """Cancel what was begun and wait for its clean-up, which is bounded in time, whatever else comes meanwhile."""
        while True:
            try:
                self._loop.call_soon_threadsafe(cancel_once, tasks)
                wait(self._ended(tasks))
            except BaseException:  # noqa: BLE001 - the first one is raised on in the end
                _log.warning("still removing the container; this can take up to a minute if the engine hangs")
            else:
                return

    def _ended(self, tasks: Sequence[asyncio.Task[Any]]) -> Future[None]:
        """Return what is done when `tasks`, which the loop may have yet to fill, have ended."""
        return asyncio.run_coroutine_threadsafe(_end_of(tasks), self._loop)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        self._started.set()
        await self._closing.wait()
        if self._at_end is not None:
            await self._at_end()


def run_in_thread(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what `coroutine` gives in a thread of its own, as `LoopThread.run` does, once that has ended."""
    thread = LoopThread()
    try:
        return thread.run(coroutine)
    finally:
        thread.close(wait=True)


def cancel_once(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel those of `tasks` that are not being cancelled already: a second cancel would end their clean-up."""
    for task in tasks:
        if not task.cancelling():
            task.cancel()


async def _end_of(tasks: Sequence[asyncio.Task[Any]]) -> None:
    if tasks:
        await asyncio.wait(tasks)


@contextmanager
def _signals() -> Iterator[_Wait]:
    """Yield what waits for a future and is woken by every signal; let Ctrl-C raise `KeyboardInterrupt`.

    A lock that is waited for does not see a signal that came just before. A running loop's own handlers would wait for
    that loop, which is blocked: it is told afterwards of the signals that came. Only the main thread gets signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield Future.result
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    seen = bytearray()

    def wake(_: Future[None]) -> None:
        with suppress(OSError):  # closed, where a signal ended the wait; or full, which wakes as well
            writer.send(b"\0")

    def wait(future: Future[None]) -> None:
        future.add_done_callback(wake)
        while not future.done():
            seen.extend(reader.recv(4096))

    woken = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield wait
    finally:
        signal.signal(signal.SIGINT, previous)
        signal.set_wakeup_fd(woken)
        reader.close()
        writer.close()
        if woken >= 0 and (numbers := seen.replace(b"\0", b"")):
            os.write(woken, numbers)
