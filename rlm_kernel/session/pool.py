"""The warm pool: slots started ahead, each for one session, and ended behind its back."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import Self

from rlm_kernel.sandbox.spec import SandboxRuntime, SandboxSpec
from rlm_kernel.session.slot import Slot, open_slot

ANSWER_DEADLINE = 2.0
"""Seconds that a waiting slot has for a sign of life before another one is taken in its place."""
FIRST_DELAY, LAST_DELAY = 1.0, 60.0
"""Seconds until a slot that could not be started ahead is tried again; doubled each time."""

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Life:
    """A slot from its start to its end, in a task of its own; `slot` is the slot once it runs, or why it does not."""

    spec: SandboxSpec
    slot: asyncio.Future[Slot] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    task: asyncio.Task[None] | None = None

    def end(self) -> None:
        """Let the slot go, or its start be given up."""
        if self.slot.done() and not self.slot.cancelled() and self.slot.exception() is None:
            self.slot.result().release()
        elif self.task is not None:
            self.task.cancel()


class SlotPool:
    """Starts slots, keeps `size` of the given spec ready, and sees to the end of those that were taken.

    Use as an async context manager. Leaving it ends every slot and waits until nothing of them is left; what can't be
    cleaned up is logged. A slot serves one session and never another one.
    """

    def __init__(self, runtime: SandboxRuntime, spec: SandboxSpec, size: int = 0) -> None:
        self._runtime = runtime
        self._spec = spec
        self._size = size
        self._ahead: deque[_Life] = deque()
        self._lives: set[_Life] = set()
        self._closed = False
        self._delay = 0.0
        self._retry: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        """Begin to start slots ahead, and return at once."""
        self._fill()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        for life in self._lives:
            life.end()
        await self._ended()

    async def filled(self) -> None:
        """Wait until every slot started ahead is warm. Raise why one could not be started."""
        for life in list(self._ahead):
            slot = await asyncio.shield(life.slot)
            await slot.kernel.warm.wait()

    def prepare(self, spec: SandboxSpec) -> None:
        """Begin to start a slot, unless one waits, for a `take` that is to come soon, or else `spare`."""
        if self._waiting(spec) is None and not self._closed:
            self._ahead.append(self._start(spec))

    def spare(self, spec: SandboxSpec) -> None:
        """Let the slots that were prepared for `spec` go, unless the pool keeps such."""
        while spec != self._spec and (life := self._waiting(spec)) is not None:
            self._ahead.remove(life)
            life.end()

    async def take(self, spec: SandboxSpec) -> Slot:
        """Return a slot for `spec`: one that waits, if it is sound, else a new one; `release` it at the end.

        Raise what `open_slot` raises. A cancel gives up the slot.
        """
        while True:
            if (life := self._waiting(spec)) is not None:
                self._ahead.remove(life)
            else:
                life = self._start(spec)
            waited = life.slot.done()
            self._fill()
            try:
                slot = await asyncio.shield(life.slot)
                if not waited or await slot.answers(ANSWER_DEADLINE):
                    self._delay = 0.0
                    return slot
            except asyncio.CancelledError:
                life.end()
                raise
            life.end()

    def _waiting(self, spec: SandboxSpec) -> _Life | None:
        """Return the slot that waits longest of those that are as `spec` says."""
        return next((life for life in self._ahead if life.spec == spec), None)

    def _fill(self) -> None:
        missing = self._size - sum(life.spec == self._spec for life in self._ahead)
        if self._retry is None and not self._closed:
            self._ahead.extend(self._start(self._spec) for _ in range(missing))

    def _start(self, spec: SandboxSpec) -> _Life:
        life = _Life(spec)
        # Not in a task group: a slot may outlive the one who asked for it, and its failure is not everyone's.
        life.task = asyncio.create_task(self._live(life))
        life.task.add_done_callback(lambda _: self._lives.discard(life))
        self._lives.add(life)
        return life

    async def _live(self, life: _Life) -> None:
        """Start a slot and end it when it is released or lost."""
        try:
            async with open_slot(self._runtime, life.spec) as slot:
                life.slot.set_result(slot)
                await slot.over()
                self._lost_ahead(life)
        except asyncio.CancelledError:
            life.slot.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - whoever waits for the slot is told what ended it, a bug included
            if not life.slot.done():
                life.slot.set_exception(error)
                self._lost_ahead(life)
            else:
                _log.warning("a sandbox was not cleaned up: %s", error)

    def _lost_ahead(self, life: _Life) -> None:
        """Replace a slot that ended before it was taken, though not at once, as the next one may end alike."""
        if life not in self._ahead or self._closed:
            return
        self._ahead.remove(life)
        if (error := life.slot.exception()) is not None:
            _log.warning("a sandbox could not be started ahead: %s", error)
        self._delay = min(max(2 * self._delay, FIRST_DELAY), LAST_DELAY)
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(self._delay, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self._fill()

    async def _ended(self) -> None:
        """Wait until every slot has ended, which the engine's deadlines bound, a cancel or not."""
        cancelled: asyncio.CancelledError | None = None
        while tasks := [life.task for life in self._lives if life.task is not None]:
            try:
                await asyncio.wait(tasks)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled
