"""The time that a cell may take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self


class CellClock:
    """Calls `over` once `seconds` have gone by in the block, those left out in which it was paused."""

    def __init__(self, seconds: float, over: Callable[[], object]) -> None:
        self._left = seconds
        self._over = over
        self._pauses = 0
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._go()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over = _nothing
        self._stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let the time stand still, as any number of such blocks may do at once."""
        if not self._pauses:
            self._stop()
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1
            if not self._pauses:
                self._go()

    def _go(self) -> None:
        loop = asyncio.get_running_loop()
        self._since = loop.time()
        self._timer = loop.call_later(self._left, self._over)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._left = max(0.0, self._left - (asyncio.get_running_loop().time() - self._since))


def _nothing() -> None:
    """Do nothing: the block has ended."""
