"""`RLM`: the public entry."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar, overload

from rlm_kernel.assembly.asked import Asked
from rlm_kernel.assembly.asking import OpenRun, open_run
from rlm_kernel.assembly.contexts import Context
from rlm_kernel.assembly.dialogue import Opening, Session
from rlm_kernel.assembly.handle import RunHandle, RunInThread
from rlm_kernel.assembly.hooks import Hooks
from rlm_kernel.assembly.kept import Kept
from rlm_kernel.assembly.rerun.replay import Again, ReplayReport, replay_run
from rlm_kernel.assembly.rerun.resume import GoOn, fork_run, resume_run
from rlm_kernel.assembly.result import RunResult
from rlm_kernel.assembly.sinks import Listeners
from rlm_kernel.assembly.thread import LoopThread
from rlm_kernel.config import Settings, changed_settings, resolve
from rlm_kernel.errors import ConfigError
from rlm_kernel.events import TreeSink
from rlm_kernel.models.model import OnText
from rlm_kernel.recording import Following, Redact

T = TypeVar("T")


class RLM:
    """A Recursive Language Model: a root model that works on a context in a sandbox and calls a sub-model on parts.

    Models are named `provider:model`, such as "openai:gpt-5". One object may serve many runs, one after another or at
    the same time. `on_event` is given every event after it was recorded, `on_text` the root model's replies as they
    come; `hooks` are called for what happens.

    Used as a context manager, `with` for `completion` or `async with` for `acompletion`, it keeps `settings.pool_size`
    sandboxes started ahead, and leaves nothing behind at its end: what still runs then is cancelled.
    """

    def __init__(  # noqa: PLR0913 - all but the models are given by name
        self,
        model: str | None = None,
        sub_model: str | None = None,
        *,
        settings: Settings | None = None,
        on_event: TreeSink | None = None,
        tools: Iterable[Callable[..., Any]] = (),
        on_text: OnText | None = None,
        hooks: Hooks | None = None,
        redact: Redact | Iterable[Redact] = (),
    ) -> None:
        """`model` and `sub_model` go before those in `settings`; a sub-model not given is the root model. `tools` are
        typed functions that cells may call, and that run here, outside of the sandbox (docs/tools.md). `redact` are
        functions that each text passes before it is written to the recording; what they return is written.

        Without `settings` the `RLM_KERNEL_` variables and the defaults count, as on the command line. Raise
        `ConfigError`, or `StorageError` if the state folder can't be used.
        """
        given = settings or resolve()
        if model is not None:
            given = replace(given, model=model, sub_model=sub_model)
        elif sub_model is not None:
            given = replace(given, sub_model=sub_model)
        self.settings = given
        redacting = (redact,) if callable(redact) else tuple(redact)
        if not all(map(callable, redacting)):
            raise ConfigError("redact takes functions of a text; what has a name goes into Settings(redact=...)")
        self._listeners = Listeners(on_event=on_event, on_text=on_text, hooks=hooks, redact=redacting)
        named = {name for name, value in (("model", model), ("sub_model", sub_model)) if value is not None}
        self._chosen = frozenset(named if settings is None else named | changed_settings(settings))
        self._kept = Kept(given, tools)
        self._thread: LoopThread | None = None

    async def __aenter__(self) -> Self:
        """Keep `settings.pool_size` sandboxes started ahead for the runs of this event loop."""
        await self._kept.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Wait until nothing is left of this event loop's runs, and of the pool."""
        await self._kept.aclose()

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

    @overload
    def completion(self, question: str, context: Context) -> RunResult[str]: ...
    @overload
    def completion(self, question: str, context: Context, *, answer_type: type[T]) -> RunResult[T]: ...
    @overload
    def completion(self, question: str, context: Context, *, answer_type: Any) -> RunResult[Any]: ...
    def completion(self, question: str, context: Context, *, answer_type: Any = None) -> RunResult[Any]:
        """Answer `question` about `context`, as `acompletion` does, from code that is not async.

        It may be called inside a running event loop too, which it blocks. An interrupt ends the run cleanly before it
        is raised on.
        """
        with self._in_thread() as thread:
            return thread.run(self._answer(Asked.of(question, answer_type), context, self._listeners))

    @overload
    async def acompletion(self, question: str, context: Context) -> RunResult[str]: ...
    @overload
    async def acompletion(self, question: str, context: Context, *, answer_type: type[T]) -> RunResult[T]: ...
    @overload
    async def acompletion(self, question: str, context: Context, *, answer_type: Any) -> RunResult[Any]: ...
    async def acompletion(self, question: str, context: Context, *, answer_type: Any = None) -> RunResult[Any]:
        """Answer `question` about `context`; the sandbox then ends in the background, which `aclose` waits for.

        `answer_type` is a type that Pydantic knows or a JSON schema as a `dict`: the model is told of it, its answer is
        checked, and the result's `value` is of that type. An answer that does not fit may be mended once.

        Raise an `RlmKernelError`: `ConfigError` and `ContextError` before anything was started or recorded. After an
        error or a cancel the recording has ended, and the sandbox too unless a pool was opened with `async with`.
        """
        return await self._answer(Asked.of(question, answer_type), context, self._listeners)

    @overload
    def start(self, question: str, context: Context) -> RunHandle[str]: ...
    @overload
    def start(self, question: str, context: Context, *, answer_type: type[T]) -> RunHandle[T]: ...
    @overload
    def start(self, question: str, context: Context, *, answer_type: Any) -> RunHandle[Any]: ...
    def start(self, question: str, context: Context, *, answer_type: Any = None) -> RunHandle[Any]:
        """Begin to answer `question` in the running event loop, and return a handle on what goes on.

        Raise `ConfigError` for what can't be asked; other errors are raised by the handle's `result`.
        """
        return self._start(Asked.of(question, answer_type), context)

    @overload
    def start_in_thread(self, question: str, context: Context) -> RunInThread[str]: ...
    @overload
    def start_in_thread(self, question: str, context: Context, *, answer_type: type[T]) -> RunInThread[T]: ...
    @overload
    def start_in_thread(self, question: str, context: Context, *, answer_type: Any) -> RunInThread[Any]: ...
    def start_in_thread(self, question: str, context: Context, *, answer_type: Any = None) -> RunInThread[Any]:
        """Return what answers `question` while a `with` block goes on, for code that is not async."""
        asked = Asked.of(question, answer_type)
        return RunInThread(lambda: self._start(asked, context), self._in_thread)

    def replay(self, run: str | Path, *, context: Context | None = None, keep: bool = False) -> ReplayReport:
        """Run a recorded run again and compare it, as `areplay` does, from code that is not async."""
        with self._in_thread() as thread:
            return thread.run(self.areplay(run, context=context, keep=keep))

    async def areplay(self, run: str | Path, *, context: Context | None = None, keep: bool = False) -> ReplayReport:
        """Run a recorded run again in a fresh container, and compare every cell with what was recorded.

        `run` is an id, a beginning or end of one, "last", or a path. Models and tools answer from the recording: none
        is asked. `context` is needed only where the content store has lost the recorded one; `keep` keeps the replay's
        own recording (docs/replay.md).

        Raise `RecordingError`, `ContextMissing`, and what starting a session raises; what differs is no error.
        """
        return await replay_run(self._kept, self._listeners, Again(run=str(run), context=context, keep=keep))

    def resume(self, run: str | Path, *, context: Context | None = None, anyway: bool = False) -> RunResult[Any]:
        """Go on with a run that was cut off, as `aresume` does, from code that is not async."""
        with self._in_thread() as thread:
            return thread.run(self.aresume(run, context=context, anyway=anyway))

    async def aresume(self, run: str | Path, *, context: Context | None = None, anyway: bool = False) -> RunResult[Any]:
        """Go on where the recording of a killed run ends, and return what its open question comes to.

        `run` is an id, a beginning or end of one, "last", or a path. It is a new run, with a recording of its own, that
        pays again for no call whose answer is recorded (docs/resume.md). Settings are as recorded unless `settings` has
        them other than by default. `context` is needed only where the content store has lost the recorded one. With
        `anyway` it goes on though a cell did not run again as it had.

        Raise `NotResumable`, `ContextMissing`, `StateDiverged`, and what `acompletion` raises.
        """
        return await resume_run(self._kept, self._listeners, self._from(run, context, anyway=anyway))

    def fork(
        self,
        run: str | Path,
        at: int | None = None,
        question: str | None = None,
        *,
        answer_type: Any = None,
        context: Context | None = None,
        anyway: bool = False,
    ) -> RunResult[Any]:
        """Go on from any turn of a recorded run, as `afork` does, from code that is not async."""
        with self._in_thread() as thread:
            forked = self.afork(run, at, question, answer_type=answer_type, context=context, anyway=anyway)
            return thread.run(forked)

    async def afork(
        self,
        run: str | Path,
        at: int | None = None,
        question: str | None = None,
        *,
        answer_type: Any = None,
        context: Context | None = None,
        anyway: bool = False,
    ) -> RunResult[Any]:
        """Go on from the state after turn `at` of a recorded run, by default its last, with a budget of its own.

        `question`, whose answer is of `answer_type`, is asked in place of what the run was asked. The rest is as for
        `aresume`; the run may have ended, or go on.
        """
        asked = None if question is None else Asked.of(question, answer_type)
        return await fork_run(self._kept, self._listeners, self._from(run, context, anyway=anyway), at, asked)

    def session(self, context: Context) -> Opening:
        """Return what opens a session of many questions: `with`, or `async with` in async code."""
        return Opening(lambda: Session(self._kept, self._listeners, context), self._in_thread)

    def _from(self, run: str | Path, context: Context | None, *, anyway: bool) -> GoOn:
        return GoOn(run=str(run), given=self._chosen, context=context, anyway=anyway)

    def _start(self, asked: Asked, context: Context) -> RunHandle[Any]:
        following = Following()
        listeners = replace(self._listeners, following=following)
        return RunHandle(following, lambda tell: self._answer(asked, context, listeners, tell), self._kept.begin)

    @contextmanager
    def _in_thread(self) -> Iterator[LoopThread]:
        """Give the thread for code that is not async: the one that is open, or one for the block."""
        if self._thread is not None:
            yield self._thread
            return
        thread = LoopThread(self.aclose)
        try:
            yield thread
        finally:
            thread.close(wait=False)

    async def _answer(
        self, asked: Asked, context: Context, listeners: Listeners, tell: Callable[[OpenRun], None] | None = None
    ) -> RunResult[Any]:
        started = time.monotonic()
        async with open_run(self._kept, listeners, context, asked.question, started) as run:
            if tell is not None:
                tell(run)
            result = await run.ask(asked, started)
        return replace(result, head=run.log.head.digest)
