"""A session: a sandbox, its kernel and its bridge, in one async context manager."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

from rlm_kernel.bridge import Bridge, Images, Models, Offer, StoredImage
from rlm_kernel.budget import Budget
from rlm_kernel.errors import ContextTooLarge, KernelFailed, SandboxLost
from rlm_kernel.events import EventSink, InterruptReason, KernelReady, KernelRebuilt, Notice
from rlm_kernel.kernel import Binding, CellResult, Stop
from rlm_kernel.sandbox.spec import SandboxSpec
from rlm_kernel.sandbox.stored import Stored
from rlm_kernel.session.answers import Played, PlayedCell, offered
from rlm_kernel.session.clock import CellClock
from rlm_kernel.session.journal import Journal, JournalCell, JournalingSink
from rlm_kernel.session.life import Life
from rlm_kernel.session.pool import SlotPool
from rlm_kernel.session.rebuild import run_again
from rlm_kernel.session.slot import KERNEL_MEMORY
from rlm_kernel.tools import Toolbox

MIB = 1024 * 1024

MAX_REPLACED = 3
"""Sandboxes that a session may lose and have replaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSpec:
    """What a session is made of.

    `sandbox.folder` is where the session's own folder is made.
    `models` is the allow-list of sub-models by name, None being the default, `children` that of models that are
    sessions themselves, empty where the depth limit is reached; `cell_timeout` is in seconds. With `rebuild` a lost
    kernel's variables are made anew from the cells that had ended. `chunk_strategy` is that of `chunk()` where a cell
    does not say, `tools` run on the host. The running cell ends with `budget`. `played` are cells that were recorded:
    those of the same number run again.
    """

    sandbox: SandboxSpec
    context: Stored
    models: Models
    cell_timeout: float
    parallel_subcalls: int = 50
    max_reply_tokens: int | None = None
    rebuild: bool = False
    children: Models = field(default_factory=dict)
    chunk_strategy: str | None = None
    budget: Budget = field(default_factory=Budget)
    tools: Toolbox = field(default_factory=Toolbox)
    played: Played | None = None


class Session:
    """A live session, made by `open_session`; `ready` is what the kernel said when `context` was first bound.

    It outlives its kernels, and up to `MAX_REPLACED` of its sandboxes.
    """

    def __init__(self, life: Life, bridge: Bridge, spec: SessionSpec, ready: KernelReady, sink: JournalingSink) -> None:
        self.ready = ready
        self._life = life
        self._bridge = bridge
        self._cell_timeout = spec.cell_timeout
        self._played = spec.played
        self._budget = spec.budget
        self._sink = sink
        self.cells = 0
        """How many have begun."""
        self._replaced = 0
        self._stop: Stop | None = None

    async def run_cell(self, code: str, *, turn: int, clock: float | None = None) -> CellResult:
        """Run one cell of the given turn and return its result; time in which it waits for sessions below is not its.

        Its wall clock shows `clock` as it begins, in seconds since 1970, and ticks on; None is the real time.
        Where it cost the kernel, or the sandbox, the result says so at once, and the next cell waits for a new one; to
        rebuild, the result waits too, until the earlier cells have run again.
        Raise `GuestProtocolError`, or `SandboxLost` or `KernelFailed` when the sandbox was replaced too often, and what
        the start of another one raises; the session can't be used after these or after a cancel.
        """
        stop = self._stop = asyncio.get_running_loop().create_future()
        try:
            await self._usable()
            self.cells += 1
            played = self._played.cell(self.cells) if self._played is not None else None
            clock = clock if played is None else played.clock
            with self._open_for(played):
                result = await self._life.kernel.run(code, cell=self.cells, turn=turn, stop=stop, clock=clock)
        finally:
            self._stop = None
        if (lost := self._life.kernel.lost) is not None:
            if self._replaced == MAX_REPLACED:
                raise lost
            self._life.prepare()
        if result.lost is not None:
            result = await self._rebuild(result)
        files_lost, self._life.kernel.files_lost = self._life.kernel.files_lost, False
        return replace(result, files_lost=True) if files_lost else result

    @contextmanager
    def _open_for(self, played: PlayedCell | None) -> Iterator[None]:
        """Take calls of the cell in the block, and bound its time: as recorded, for one that is `played`."""
        reason: InterruptReason = "timed_out" if played is None else played.reason
        seconds = self._cell_timeout if played is None else played.seconds
        with ExitStack() as stack:
            clock = stack.enter_context(CellClock(seconds, partial(self.interrupt, reason)))
            offer = None if played is None else offered(played.answers, self._bridge.offer)
            # What ended a cell at a given time ends it then again, whatever it waits for.
            waiting = clock.paused if reason == "timed_out" else nullcontext
            stack.enter_context(self._bridge.open_for(self.cells, offer, waiting=waiting))
            if played is None or not played.whole:
                stack.enter_context(self._budget.cell(self.interrupt))
            yield

    def interrupt(self, reason: InterruptReason = "stopped") -> None:
        """End the running cell, if any, as its time limit would; its status is "interrupted" then."""
        if self._stop is not None and not self._stop.done():
            self._stop.set_result(reason)

    async def _rebuild(self, result: CellResult) -> CellResult:
        """Make the variables that went with a cell's kernel anew, and return its result with what came of it."""
        journal = self._sink.journal
        if journal is None or not (cells := journal.cells()):
            return result
        await self._bridge.settled()
        started = time.monotonic()
        stop = self._stop = asyncio.get_running_loop().create_future()
        self._sink.rebuilding = True
        try:
            with self._budget.cell(self.interrupt):
                cells, failed = await self._run_again(cells, stop)
        finally:
            self._sink.rebuilding = False
            self._stop = None
        failed = failed or journal.cut
        names = self._life.kernel.names
        self._sink.emit(
            KernelRebuilt(
                generation=self._life.kernel.generation,
                cells=[cell.cell for cell in cells],
                names=list(names),
                seconds=time.monotonic() - started,
                failed=failed,
            )
        )
        gone = tuple(name for name in result.lost or () if name not in names)
        return replace(result, lost=gone, rebuilt=names, not_rebuilt=failed)

    async def _run_again(self, cells: list[JournalCell], stop: Stop) -> tuple[list[JournalCell], str | None]:
        """Run `cells` in a new kernel; return those whose work is there then, and why it is not all of them.

        What a cell did before it ended otherwise does not stay: those before it begin once more, without it.
        """
        failed: str | None = None
        for _ in range(2):
            await self._usable()
            rerun = await run_again(cells, self._life.kernel, self._bridge, stop)
            if rerun.failed is None:
                return cells, failed
            failed = failed or rerun.failed
            cells = cells[: rerun.done]
            if not rerun.lost:
                self._life.kernel.restart(f"{rerun.failed} when it ran again")
            if not cells or stop.done():
                break
        await self._usable()
        return [], failed

    async def _usable(self) -> None:
        """Wait for a kernel; where its sandbox is lost or lets none start, replace the sandbox."""
        while True:
            try:
                return await self._life.kernel.usable()
            except (SandboxLost, KernelFailed) as error:
                if self._replaced == MAX_REPLACED:
                    raise
                why = str(error)
            self._replaced += 1
            self._life.kernel.record_replacement()
            self._sink.emit(Notice(message=f"the session goes on in a new container: {why}"))
            told = self._life.kernel.lost is not None
            await self._life.begin()
            self._life.kernel.files_lost = not told
            await self._bridge.move(self._life.endpoint)


@asynccontextmanager
async def open_session(slots: SlotPool, spec: SessionSpec, sink: EventSink) -> AsyncIterator[Session]:
    """Take a slot, bind the context, and give the slot back on exit, after an error and a cancel too.

    Its sandbox ends in the background then; closing `slots` waits for that. Raise what `SlotPool.take` and
    `KernelClient.start` raise, and `ContextTooLarge`.
    """
    check_fits(spec.context, spec.sandbox.memory)
    sink = JournalingSink(sink, Journal() if spec.rebuild else None, spec.budget)
    binding = Binding(chunk_strategy=spec.chunk_strategy, tools=spec.tools.announced())
    life = Life(slots, spec.sandbox, spec.context, sink, binding)
    try:
        ready = await life.begin()
        async with Bridge(
            life.endpoint,
            Offer(spec.models, spec.children, spec.budget, spec.tools, _images(spec.context)),
            sink,
            parallel=spec.parallel_subcalls,
            max_reply_tokens=spec.max_reply_tokens,
        ) as bridge:
            yield Session(life, bridge, spec, ready, sink)
            life.kernel.record_late_cuts()
    finally:
        life.end()


def _images(context: Stored) -> Images:
    """Return the images among contexts, by their names."""
    return Images(
        {
            part.name: StoredImage(
                digest=part.digest, media_type=part.picture.media_type, size=part.size, path=part.path
            )
            for part in context.parts
            if part.picture is not None
        }
    )


def check_fits(context: Stored, memory: int) -> None:
    """Raise `ContextTooLarge` for contexts that as Python values would not fit into a sandbox's `memory` bytes."""
    values = sum(max(part.decoded_size, part.value_size) for part in context.parts)
    texts = sum(part.decoded_size for part in context.parts if part.kind == "json")  # of which the values are made
    needed = KERNEL_MEMORY + values + texts + sum(part.size for part in context.parts)
    if needed > memory:
        raise ContextTooLarge(
            f"the context takes {values / MIB:.0f} MiB as a Python value, and the session's memory "
            f"of {memory / MIB:.0f} MiB is too small for it: allow {needed / MIB + 64:.0f} MiB or more with --memory"
        )
