"""Ends the running cell from another thread: the second way, where SIGINT is ignored, is blocked, or came too early."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class RunningCell:
    """The cell that runs now, by its request's id; `task` is set for one that awaits."""

    def __init__(self) -> None:
        self.task: asyncio.Task[Any] | None = None
        self._request: str | None = None
        self._raised = False

    @contextmanager
    def of(self, request: str) -> Iterator[None]:
        """Let the cell of `request` be cancelled while the block runs."""
        self._request = request
        try:
            yield
        finally:
            self._request = self.task = None
            if self._raised:
                self._raise(None)

    def cancel(self, request: str) -> None:
        """Cancel the cell of `request`, if it still runs: its task where that waits, else whatever it does.

        Code that does not come back to Python, or catches everything, goes on.
        """
        if request != self._request:
            return
        task = self.task
        if task is not None and asyncio.current_task(loop := task.get_loop()) is not task:
            loop.call_soon_threadsafe(task.cancel)
        else:
            self._raise(KeyboardInterrupt)

    def _raise(self, kind: type[BaseException] | None) -> None:
        """Raise `kind` in the main thread at its next step; None takes back one that was not raised yet."""
        import ctypes  # noqa: PLC0415  rarely needed

        self._raised = kind is not None
        main = ctypes.c_ulong(threading.main_thread().ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(main, kind and ctypes.py_object(kind))


CELL = RunningCell()
