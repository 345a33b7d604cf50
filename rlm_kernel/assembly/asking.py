"""`open_run`: everything that a run is made of, opened around a block that asks questions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

from rlm_kernel.assembly.asked import Asked
from rlm_kernel.assembly.budgets import remember
from rlm_kernel.assembly.cells import Cells
from rlm_kernel.assembly.contexts import Context, store_context, summary
from rlm_kernel.assembly.hooks import called, heard
from rlm_kernel.assembly.kept import Kept
from rlm_kernel.assembly.place import Place, open_controller
from rlm_kernel.assembly.prompting import root_profile
from rlm_kernel.assembly.recursion import children
from rlm_kernel.assembly.result import RunResult
from rlm_kernel.assembly.retention import retaining
from rlm_kernel.assembly.run import Run
from rlm_kernel.assembly.sinks import Listeners
from rlm_kernel.assembly.start import Start
from rlm_kernel.assembly.sweeping import sweep_once
from rlm_kernel.budget import Budget
from rlm_kernel.controller import Controller
from rlm_kernel.errors import SessionError
from rlm_kernel.recording import Following, RecordingLog, new_run_id
from rlm_kernel.session import Seat
from rlm_kernel.types import Usage


class OpenRun:
    """A run whose session is live, and takes questions one after another."""

    def __init__(
        self, run: Run, driven: tuple[Controller, Cells], seat: Seat, budget: Budget, log: RecordingLog
    ) -> None:
        self.run = run
        self.log = log
        self._controller, self._cells = driven
        self._seat = seat
        self.budget = budget
        self._summary = summary(run.context, self._cells.session.ready, run.tools.described())
        self._busy = False

    async def ask(self, asked: Asked, started: float | None = None) -> RunResult[Any]:
        """Return what a question comes to; its seconds count from `started`, else from now.

        Raise what `Controller.answer` raises, `BudgetExceeded`, and `SessionError` where it can't be asked.
        """
        started = time.monotonic() if started is None else started
        check = asked.check
        before = dict(self.run.models.meter.usage)
        with self._one_at_a_time(), self.run.asking():
            async with self._seat.taken(), self.budget.working():
                outcome = await self._controller.answer(asked.question, self._summary, check)
            self.run.answered(outcome.status, outcome.answer, outcome.reason)
        usage = {name: used - before.get(name, Usage()) for name, used in self.run.models.meter.usage.items()}
        return RunResult(
            answer=outcome.answer,
            value=outcome.answer if check is None else check.value(outcome.answer),
            status=outcome.status,
            run=self.run.id,
            recording=self.log.folder,
            usage={name: used for name, used in usage.items() if used != Usage()},
            seconds=time.monotonic() - started,
            turns=outcome.turns,
            reason=outcome.reason,
            before={} if self.run.origin is None else dict(self.run.origin.usage),
        )

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        if self._busy:
            raise SessionError("the session is busy with another question: await its answer, or open another session")
        if self._cells.lost is not None:
            why = str(self._cells.lost) or "it was stopped in the middle of a cell"
            raise SessionError(f"the session has lost its sandbox, open another one: {why}") from self._cells.lost
        self._busy = True
        try:
            yield
        finally:
            self._busy = False


@asynccontextmanager
async def open_run(
    kept: Kept,
    listeners: Listeners,
    context: Context,
    question: str = "",
    started: float | None = None,
    start: Start | None = None,
) -> AsyncIterator[OpenRun]:
    """Open models, context, recording and session for questions about `context`; `question` is the only one, if given.

    When the block ends well the sandbox ends in the background, which `Kept.aclose` waits for. Raise an
    `RlmKernelError`: `ConfigError` and `ContextError` before anything was started or recorded.
    """
    started, start = time.monotonic() if started is None else started, start or Start()
    settings = kept.settings
    async with retaining(settings), AsyncExitStack() as stack:
        await asyncio.to_thread(root_profile, settings, settings.model)  # a broken one is told before anything starts
        models = await stack.enter_async_context(start.models(kept))
        stored = await store_context(kept.store, context, settings.memory)
        tools = start.tools(kept, stored)
        slots = await kept.slots(stack)
        run_id = new_run_id()
        redaction = listeners.redaction(settings)
        models.keep_out(redaction)
        with RecordingLog(settings.state_dir, run_id, keep=settings.keep_recording, redaction=redaction) as log:
            hooking = Following()
            sink = start.sink(listeners.behind(log, *([hooking] if listeners.hooks else [])), settings, stored)
            run = Run(run_id, sink, models, stored, started, tools, origin=start.origin)
            place = Place(
                root=run_id,
                settings=settings,
                store=kept.store,
                slots=slots,
                sink=sink,
                seat=Seat(kept.seats),
                models=models,
                tools=tools,
                on_text=heard(listeners.hooks, listeners.on_text),
                stop_first=not question,
                played=start.played,
            )
            with run.recorded(question, settings):
                budget = start.budget(kept, models.prices, run)
                place = replace(place, models=models.under(budget))
                async with called(listeners.hooks, hooking, run), AsyncExitStack() as opened:
                    async with place.seat.taken(), budget.working():
                        opening = open_controller(place, run, children(place))
                        driven = await opened.enter_async_context(opening)
                    sweep_once(settings)
                    yield OpenRun(run, driven, place.seat, budget, log)
            start.recorded(log.path)
        if start.origin is None:  # what is from a recording says nothing of what such runs use
            remember(settings, models.meter.usage)
        kept.end(stack.pop_all())
