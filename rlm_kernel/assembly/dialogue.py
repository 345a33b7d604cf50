"""Sessions of many questions: variables and conversation stay from one to the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Any, TypeVar, overload

from rlm_kernel.assembly.asked import Asked
from rlm_kernel.assembly.asking import OpenRun, open_run
from rlm_kernel.assembly.contexts import Context
from rlm_kernel.assembly.kept import Kept
from rlm_kernel.assembly.result import RunResult
from rlm_kernel.assembly.sinks import Listeners
from rlm_kernel.assembly.thread import LoopThread, cancel_once
from rlm_kernel.budget import Amounts, Budget
from rlm_kernel.errors import RlmKernelError, SessionError
from rlm_kernel.events import AnyEvent
from rlm_kernel.recording import Following

T = TypeVar("T")


class Session:
    """A session over one context: `async with rlm.session(context) as session`. Its questions are one run.

    Ask one question at a time. After an error or a cancel, which stops a running cell first, the next one may be asked,
    unless the sandbox went with it, which that ask then says.
    """

    def __init__(self, kept: Kept, listeners: Listeners, context: Context) -> None:
        self._kept = kept
        self._following = Following()
        self._listeners = replace(listeners, following=self._following)
        self._context = context
        self._leave = asyncio.Event()
        self._opened: asyncio.Future[OpenRun] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start the sandbox, in a task of the session's own, so that any task may ask and close."""
        self._task = self._kept.begin(self._live())
        try:
            either: set[asyncio.Future[Any]] = {self._task, self._opened}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.aclose(cancelled=True)
            raise
        if not self._opened.done():
            await self._task

    async def aclose(self, *, cancelled: bool = False) -> None:
        """End the recording, as cancelled or as the last question ended, and let the sandbox go; safe to call twice."""
        if self._task is None:
            return
        self._leave.set()
        if cancelled:
            cancel_once([self._task])
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            self._task.result()

    @overload
    async def ask(self, question: str) -> RunResult[str]: ...
    @overload
    async def ask(self, question: str, *, answer_type: type[T]) -> RunResult[T]: ...
    @overload
    async def ask(self, question: str, *, answer_type: Any) -> RunResult[Any]: ...
    async def ask(self, question: str, *, answer_type: Any = None) -> RunResult[Any]:
        """Answer `question`, as `RLM.acompletion` does, in the conversation so far; each has all of `max_turns`.

        Raise what `RLM.acompletion` raises, and `SessionError` where the session is busy, has ended or lost its
        sandbox.
        """
        if self._task is None or self._task.done() or self._leave.is_set():
            raise SessionError("the session has ended: open another one to ask more")
        try:
            return await self._opened.result().ask(Asked.of(question, answer_type))
        except RlmKernelError as error:
            if self._leave.is_set() or self._task.cancelling():  # by its own end, or that of its `RLM`
                raise SessionError("the session was closed while the question was being answered") from error
            raise

    def remaining(self) -> Amounts:
        """Return what all questions to come may still use together."""
        return self.budget.remaining()

    @property
    def budget(self) -> Budget:
        """What all questions together may use; it tells what was used, and what a call would take."""
        return self._opened.result().budget

    async def events(self) -> AsyncIterator[AnyEvent]:
        """Yield every recorded event of the session, as `async for event in run` does for a `RunHandle`."""
        async for record in self._following.records():
            yield record.event

    async def _live(self) -> None:
        try:
            async with open_run(self._kept, self._listeners, self._context) as opened:
                self._opened.set_result(opened)
                await self._leave.wait()
        finally:
            self._following.end()


class SessionInThread:
    """A session for code that is not async: `with rlm.session(context) as session`. It is as `Session` otherwise."""

    def __init__(self, session: Session, thread: LoopThread) -> None:
        self._session = session
        self._thread = thread

    @overload
    def ask(self, question: str) -> RunResult[str]: ...
    @overload
    def ask(self, question: str, *, answer_type: type[T]) -> RunResult[T]: ...
    @overload
    def ask(self, question: str, *, answer_type: Any) -> RunResult[Any]: ...
    def ask(self, question: str, *, answer_type: Any = None) -> RunResult[Any]:
        """Answer `question`, as `Session.ask` does; an interrupt cancels it before it is raised on."""
        return self._thread.run(self._session.ask(question, answer_type=answer_type))

    def remaining(self) -> Amounts:
        """Return what all questions to come may still use together."""
        return self._session.remaining()

    @property
    def budget(self) -> Budget:
        """What all questions together may use, as `Session.budget`."""
        return self._session.budget


class Opening:
    """A session that is not open yet: `async with` opens a `Session`, `with` a `SessionInThread`."""

    def __init__(
        self, make: Callable[[], Session], in_thread: Callable[[], AbstractContextManager[LoopThread]]
    ) -> None:
        """`in_thread` gives the thread for `with`, for a block."""
        self._make = make
        self._in_thread = in_thread
        self._session: Session | None = None
        self._thread: LoopThread
        self._opened: ExitStack

    async def __aenter__(self) -> Session:
        self._session = self._make()
        await self._session.open()
        return self._session

    async def __aexit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        if self._session is not None:
            await self._session.aclose(cancelled=kind is not None and not issubclass(kind, Exception))

    def __enter__(self) -> SessionInThread:
        with ExitStack() as stack:
            self._thread = stack.enter_context(self._in_thread())
            session = self._thread.run(self.__aenter__())
            self._opened = stack.pop_all()
        return SessionInThread(session, self._thread)

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        with self._opened:
            self._thread.run(self.__aexit__(kind, *exc_info))
