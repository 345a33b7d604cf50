"""`RLM`: the public entry, and the only place where runtime, models, stores and controller meet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from rlm_kernel.assembly.contexts import Context, store_context, summary
from rlm_kernel.assembly.models import Models
from rlm_kernel.assembly.run import Run
from rlm_kernel.assembly.sweeping import sweep_once
from rlm_kernel.assembly.thread import LoopThread
from rlm_kernel.config import Settings, resolve
from rlm_kernel.controller import Controller, ControllerLimits, Outcome
from rlm_kernel.errors import BudgetExceeded, EmptyQuestion
from rlm_kernel.events import RunStatus, TreeSink
from rlm_kernel.recording import RecordingLog, Tee, new_run_id
from rlm_kernel.sandbox.contexts import ContextStore
from rlm_kernel.sandbox.docker import DockerRuntime
from rlm_kernel.sandbox.image import image_tag
from rlm_kernel.sandbox.spec import SandboxSpec
from rlm_kernel.session import SessionSpec, SlotPool, open_session
from rlm_kernel.types import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """A run's outcome.

    `status` is "partial" where the answer is the best one so far, as the turns ran out. `recording` is the run's
    folder, `usage` is per model name, `seconds` count from the call.
    """

    answer: str
    status: RunStatus
    run: str
    recording: Path
    usage: dict[str, Usage]
    seconds: float
    turns: int

    @property
    def cost_usd(self) -> float | None:
        """What all calls cost, in US dollars; None if a price is unknown."""
        return sum(self.usage.values(), Usage()).cost_usd


class RLM:
    """A Recursive Language Model: a root model that works on a context in a sandbox and calls a sub-model on parts.

    Models are named `provider:model`, such as "openai:gpt-5". One object may serve many runs, one after another or at
    the same time. `on_event` is given every event after it was recorded.

    Used as a context manager, `with` for `completion` or `async with` for `acompletion`, it keeps `settings.pool_size`
    sandboxes started ahead, and leaves nothing behind at its end.
    """

    def __init__(
        self,
        model: str | None = None,
        sub_model: str | None = None,
        *,
        settings: Settings | None = None,
        on_event: TreeSink | None = None,
    ) -> None:
        """`model` and `sub_model` go before those in `settings`; a sub-model not given is the root model.

        Without `settings` the `RLM_KERNEL_` variables and the defaults count, as on the command line. Raise
        `ConfigError`, or `StorageError` if the state folder can't be used.
        """
        given = settings or resolve()
        if model is not None:
            given = replace(given, model=model, sub_model=sub_model)
        elif sub_model is not None:
            given = replace(given, sub_model=sub_model)
        self.settings = given
        self._on_event = on_event
        self._store = ContextStore(given.contexts_dir)
        self._open = AsyncExitStack()
        self._pool: tuple[asyncio.AbstractEventLoop, SlotPool] | None = None
        self._thread: LoopThread | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Keep `settings.pool_size` sandboxes started ahead for the runs of this event loop."""
        slots = await self._open.enter_async_context(_open_slots(self.settings, self.settings.pool_size))
        self._pool = (asyncio.get_running_loop(), slots)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Wait until nothing is left of this event loop's runs, and of the pool."""
        self._pool = None
        await self._open.aclose()
        loop = asyncio.get_running_loop()
        while ending := [task for task in self._ending if task.get_loop() is loop]:
            await asyncio.wait(ending)

    def __enter__(self) -> Self:
        """Do what `async with` does, for `completion`."""
        self._thread = LoopThread(self.aclose)
        try:
            self._thread.run(self.__aenter__())
        except BaseException:  # a Ctrl-C too may not leave the thread
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.close(wait=True)

    def completion(self, question: str, context: Context) -> RunResult:
        """Answer `question` about `context`, as `acompletion` does, from code that is not async.

        It may be called inside a running event loop too, which it blocks. An interrupt ends the run cleanly before it
        is raised on.
        """
        thread = self._thread or LoopThread(self.aclose)
        try:
            return thread.run(self.acompletion(question, context))
        finally:
            if thread is not self._thread:
                thread.close(wait=False)

    async def acompletion(self, question: str, context: Context) -> RunResult:
        """Answer `question` about `context`; the sandbox then ends in the background, which `aclose` waits for.

        Raise an `RlmKernelError`: `ConfigError` and `ContextError` before anything was started or recorded. After an
        error or a cancel the recording has ended, and the sandbox too unless a pool was opened with `async with`.
        """
        started = time.monotonic()
        if not question.strip():
            raise EmptyQuestion("the question is empty: say what you want to know about the context")
        async with AsyncExitStack() as stack:
            models = await stack.enter_async_context(Models.open(self.settings))
            stored = await store_context(self._store, context, self.settings.memory)
            slots = await self._slots(stack)
            run_id = new_run_id()
            with RecordingLog(self.settings.state_dir, run_id) as log:
                sink: TreeSink = Tee(log, self._on_event) if self._on_event else log
                run = Run(run_id, sink, models, stored, started)
                outcome = await run.record(self._answer(run, slots, question), question, self.settings)
            self._end(stack.pop_all())
            return RunResult(
                answer=outcome.answer,
                status=outcome.status,
                run=run_id,
                recording=log.folder,
                usage=dict(models.meter.usage),
                seconds=time.monotonic() - started,
                turns=outcome.turns,
            )

    async def _slots(self, stack: AsyncExitStack) -> SlotPool:
        """Return the pool, if it is one of the running event loop, else one for this run alone."""
        if self._pool is not None and self._pool[0] is asyncio.get_running_loop():
            return self._pool[1]
        return await stack.enter_async_context(_open_slots(self.settings))

    def _end(self, opened: AsyncExitStack) -> None:
        """Close what a run had opened, behind its back."""
        task = asyncio.create_task(opened.aclose())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _answer(self, run: Run, slots: SlotPool, question: str) -> Outcome:
        settings = self.settings
        spec = SessionSpec(
            sandbox=sandbox_spec(settings),
            context=run.context,
            models={None: run.models.sub, run.models.sub.name: run.models.sub},
            cell_timeout=settings.cell_timeout,
            parallel_subcalls=settings.max_parallel_subcalls,
            max_reply_tokens=settings.max_reply_tokens,
            rebuild=settings.rebuild,
        )
        limits = ControllerLimits(
            max_turns=settings.max_turns,
            shown_characters=settings.shown_output,
            max_reply_tokens=settings.max_reply_tokens,
            cell_seconds=settings.cell_timeout,
        )
        deadline = asyncio.timeout(settings.run_timeout)
        try:
            async with deadline, open_session(slots, self._store, spec, run) as session:
                sweep_once(settings)
                controller = Controller(run.models.root, session, run, limits)
                return await controller.answer(question, summary(run.context, session.ready))
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise BudgetExceeded(
                f"the run took longer than its {settings.run_timeout:g} s: allow more with --run-timeout"
            ) from error


@asynccontextmanager
async def _open_slots(settings: Settings, size: int = 0) -> AsyncIterator[SlotPool]:
    runtime = DockerRuntime(settings.docker_host, oci_runtime=settings.oci_runtime)
    try:
        async with SlotPool(runtime, sandbox_spec(settings), size) as slots:
            yield slots
    finally:
        await runtime.aclose()


def sandbox_spec(settings: Settings) -> SandboxSpec:
    """Return what a session's container is to be like."""
    return SandboxSpec(
        image=image_tag(),
        folder=settings.sessions_dir,
        memory=settings.memory,
        cpus=settings.cpus,
        pids=settings.pids,
        nofile=settings.nofile,
        tmp_size=settings.tmp_size,
        first_uid=settings.uid_first,
        last_uid=settings.uid_last,
        carrier=settings.carrier,
    )
