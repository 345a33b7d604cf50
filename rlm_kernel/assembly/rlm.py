"""`RLM`: the public entry, and the only place where runtime, models, stores and controller meet."""

from __future__ import annotations

import asyncio
import platform
import signal
import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rlm_kernel.assembly.models import Models
from rlm_kernel.assembly.sweeping import sweep_once
from rlm_kernel.config import Settings, resolve
from rlm_kernel.controller import ContextSummary, Controller, ControllerLimits, Outcome
from rlm_kernel.errors import BudgetExceeded, EmptyQuestion, RecordingError, SandboxError, StorageError
from rlm_kernel.events import (
    AnyEvent,
    ContextStored,
    EventSink,
    KernelReady,
    Notice,
    RunFinished,
    RunStarted,
    RunStatus,
    TurnStarted,
)
from rlm_kernel.recording import RecordingLog, Tee, new_run_id
from rlm_kernel.sandbox.contexts import ContextStore, StoredContext
from rlm_kernel.sandbox.docker import DockerRuntime
from rlm_kernel.sandbox.image import image_tag
from rlm_kernel.sandbox.spec import SandboxSpec
from rlm_kernel.session import SessionSpec, SlotPool, check_fits, open_session
from rlm_kernel.types import JSON, Usage
from rlm_kernel.version import __version__

Context = StoredContext | Path | JSON
"""What a context may be: a stored one, a file's or folder's path, a text, or a JSON value."""


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
    """

    def __init__(
        self,
        model: str | None = None,
        sub_model: str | None = None,
        *,
        settings: Settings | None = None,
        on_event: EventSink | None = None,
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

    def completion(self, question: str, context: Context) -> RunResult:
        """Answer `question` about `context` and return when the container is gone.

        It may be called inside a running event loop too, which it blocks. Raise an `RlmKernelError`; an interrupt
        ends the run cleanly before it is raised on.
        """
        return _run(self.acompletion(question, context))

    async def acompletion(self, question: str, context: Context) -> RunResult:
        """Answer `question` about `context`. A cancel removes the container and ends the recording first.

        Raise an `RlmKernelError`: `ConfigError` and `ContextError` before anything was started or recorded.
        """
        started = time.monotonic()
        if not question.strip():
            raise EmptyQuestion("the question is empty: say what you want to know about the context")
        async with AsyncExitStack() as stack:
            models = await stack.enter_async_context(Models.open(self.settings))
            if not isinstance(context, StoredContext):
                context = await self._store.put(context, max_bytes=self.settings.memory)
            check_fits(context, self.settings.memory)
            run_id = new_run_id()
            log = stack.enter_context(RecordingLog(self.settings.state_dir, run_id))
            sink: EventSink = Tee(log, self._on_event) if self._on_event else log
            run = _Run(run_id, sink, models, context, started)
            outcome = await run.record(self._answer(run, question), question, self.settings)
            return RunResult(
                answer=outcome.answer,
                status=outcome.status,
                run=run_id,
                recording=log.folder,
                usage=dict(models.meter.usage),
                seconds=time.monotonic() - started,
                turns=outcome.turns,
            )

    async def _answer(self, run: _Run, question: str) -> Outcome:
        settings = self.settings
        runtime = DockerRuntime(settings.docker_host)
        spec = SessionSpec(
            sandbox=sandbox_spec(settings),
            context=run.context,
            models={None: run.models.sub, run.models.sub.name: run.models.sub},
            cell_timeout=settings.cell_timeout,
            parallel_subcalls=settings.max_parallel_subcalls,
            max_output_tokens=settings.max_output_tokens,
            rebuild=settings.rebuild,
        )
        limits = ControllerLimits(
            max_turns=settings.max_turns,
            shown_characters=settings.shown_output,
            max_output_tokens=settings.max_output_tokens,
            cell_seconds=settings.cell_timeout,
        )
        outcome: Outcome | None = None
        deadline = asyncio.timeout(settings.run_timeout)
        try:
            async with (
                deadline,
                SlotPool(runtime, spec.sandbox) as slots,
                open_session(slots, self._store, spec, run) as session,
            ):
                sweep_once(settings)
                controller = Controller(run.models.root, session, run, limits)
                outcome = await controller.answer(question, _summary(run.context, session.ready))
                deadline.reschedule(None)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise BudgetExceeded(
                f"the run took longer than its {settings.run_timeout:g} s: allow more with --run-timeout"
            ) from error
        except SandboxError as error:
            if outcome is None:
                raise
            run.emit(Notice(message=f"the answer is whole, but the sandbox was not cleaned up: {error}"))
        finally:
            await runtime.aclose()
        return outcome


@dataclass(slots=True)
class _Run:
    """One run from its first event to its last, and the sink of those between; it counts the turns."""

    id: str
    sink: EventSink
    models: Models
    context: StoredContext
    started: float
    turns: int = 0

    def emit(self, event: AnyEvent) -> None:
        """Pass `event` on."""
        self.turns += isinstance(event, TurnStarted)
        self.sink.emit(event)

    async def record(self, answering: Coroutine[Any, Any, Outcome], question: str, settings: Settings) -> Outcome:
        """Await `answering` between the run's first events and its last one, however it ends."""
        try:
            self._begin(question, settings)
            outcome = await answering
        except asyncio.CancelledError:
            self._finish("cancelled", None)
            raise
        except Exception as error:  # whatever ends a run, a bug included, its recording is to tell
            with suppress(RecordingError, StorageError):  # what ended the run may be the recording itself
                self._finish("failed", None, error)
            raise
        finally:
            answering.close()
        self._finish(outcome.status, outcome.answer)
        return outcome

    def _begin(self, question: str, settings: Settings) -> None:
        self.emit(
            RunStarted(
                run=self.id,
                question=question,
                model=self.models.root.name,
                sub_model=self.models.sub.name,
                package_version=__version__,
                python_version=platform.python_version(),
                settings=settings.as_json(),
            )
        )
        self.emit(
            ContextStored(
                digest=self.context.digest,
                kind=self.context.kind,
                size=self.context.size,
                source=self.context.source,
                index_digest=self.context.index_digest,
            )
        )
        for note in self.context.notes:
            self.emit(Notice(message=note))

    def _finish(self, status: RunStatus, answer: str | None, error: Exception | None = None) -> None:
        self.emit(
            RunFinished(
                status=status,
                answer=answer,
                seconds=time.monotonic() - self.started,
                turns=self.turns,
                usage=dict(self.models.meter.usage),
                error=type(error).__name__ if error else None,
                message=str(error) if error else None,
            )
        )


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


def _summary(context: StoredContext, ready: KernelReady) -> ContextSummary:
    unit: Literal["characters", "files", "items"] = (
        "characters" if ready.context_type == "str" else "files" if context.kind == "files" else "items"
    )
    return ContextSummary(
        type_name="dict[str, str]" if context.kind == "files" else ready.context_type,
        length=ready.context_length,
        unit=unit,
        total_chars=context.chars,
        preview=context.preview,
        names=context.names,
    )


def _run(coroutine: Coroutine[Any, Any, RunResult]) -> RunResult:
    """Run `coroutine` to its end from code that is not async, in a thread of its own where a loop runs already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    runner = asyncio.Runner()
    with ThreadPoolExecutor(1, thread_name_prefix="rlm") as thread, _keyboard_interrupts():
        loop = thread.submit(runner.get_loop).result()
        run = thread.submit(runner.run, coroutine)
        try:
            return run.result()
        except KeyboardInterrupt:
            loop.call_soon_threadsafe(_cancel_all, loop)
            with suppress(asyncio.CancelledError, CancelledError):
                run.result()
            raise
        finally:
            thread.submit(runner.close).result()


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


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()
