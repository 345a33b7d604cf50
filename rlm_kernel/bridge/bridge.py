"""The bridge: sub-calls in from the guest, checked against the host's state, answers of sub-models out."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Annotated

import msgspec

from rlm_kernel.errors import (
    BudgetExceeded,
    DepthExceeded,
    GuestProtocolError,
    ModelRejected,
    RetryableModelError,
    RlmKernelError,
)
from rlm_kernel.events import (
    AnyEvent,
    EventSink,
    ModelRetried,
    Notice,
    SubcallFailed,
    SubcallRefused,
    SubcallReplied,
    SubcallRequested,
)
from rlm_kernel.guest.wire import LIMITS, Channel, ErrorCode
from rlm_kernel.guest.wire import Message as WireMessage
from rlm_kernel.models.model import Model, ModelRequest
from rlm_kernel.stream import Endpoint
from rlm_kernel.types import JSON, Message

MAX_IN_FLIGHT = 1_000
REFUSALS_RECORDED = 100


class SubcallMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the guest sends for one sub-call; `id` is its own."""

    id: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    prompt: Annotated[str, msgspec.Meta(min_length=1)]
    model: Annotated[str, msgspec.Meta(max_length=200)] | None = None


class KnownFailure(Exception):
    """A sub-call failed before, and the guest is to be told the same again: `code` and `told`."""

    def __init__(self, code: str, told: str) -> None:
        super().__init__(told)
        self.code = code
        self.told = told


class Bridge:
    """Answers sub-calls with `models`: the allow-list by name, None being the default.

    Use as an async context manager; leaving it cancels what is in flight, at the provider too. A sub-call is taken
    only while a cell runs (`open_for`) and ends with it. At most `parallel` are with a model or have an answer that the
    guest has not read, `MAX_IN_FLIGHT` are taken; others wait, and their bytes count against the stream's window.
    Nothing in a guest's message can change which models, limits or keys apply, and no error text from a provider, which
    may name hosts or paths, goes into the container.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        models: Mapping[str | None, Model],
        sink: EventSink,
        *,
        parallel: int,
        max_reply_tokens: int | None = None,
    ) -> None:
        self._parallel = asyncio.Semaphore(parallel)
        self._endpoint = endpoint
        self._models = self._offered = models
        self._sink = sink
        self._max_reply_tokens = max_reply_tokens
        self._cell: int | None = None
        self._calls = 0
        self._refused = 0
        self._waiting: deque[WireMessage] = deque()
        self._in_flight: dict[int, asyncio.Task[None]] = {}
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Bridge:
        await self._tasks.__aenter__()
        self._endpoint.handle(Channel.SUBCALL, self._on_message)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._end_cell()
        await self._tasks.__aexit__(None, None, None)

    @property
    def names(self) -> dict[str | None, str]:
        """The models' names, by what a cell calls them."""
        return {asked: model.name for asked, model in self._models.items()}

    @contextmanager
    def open_for(self, cell: int, models: Mapping[str | None, Model] | None = None) -> Iterator[None]:
        """Take sub-calls as those of `cell`, for `models` in place of the usual ones if they are given.

        Those without an answer at the end are cancelled.
        """
        self._cell = cell
        self._offered = self._models if models is None else models
        try:
            yield
        finally:
            self._end_cell()

    async def move(self, endpoint: Endpoint) -> None:
        """Serve `endpoint` in place of the one so far, once the calls of that one have ended."""
        await self.settled()
        self._endpoint = endpoint
        endpoint.handle(Channel.SUBCALL, self._on_message)

    async def settled(self) -> None:
        """Wait until the calls that ended with their cell are over."""
        while self._in_flight:
            await asyncio.wait(self._in_flight.values())

    def _end_cell(self) -> None:
        self._cell = None
        for task in self._in_flight.values():
            task.cancel()
        while self._waiting:
            self._take(self._waiting.popleft())
        if self._refused > REFUSALS_RECORDED:
            self._record(Notice(message=f"{self._refused - REFUSALS_RECORDED} more sub-calls were refused"))
        self._refused = 0

    def _on_message(self, message: WireMessage) -> None:
        if len(self._in_flight) < MAX_IN_FLIGHT:
            self._take(message)
        else:
            self._waiting.append(message)

    def _take(self, message: WireMessage) -> None:
        try:
            request = msgspec.json.decode(message.payload, type=SubcallMessage)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise GuestProtocolError(f"the container sent a malformed sub-call: {error}") from None
        if request.id in self._in_flight:
            raise GuestProtocolError(f"the container used the id {request.id} for two sub-calls at once")
        self._calls += 1
        call = f"s{self._calls}"
        if (reason := self._refusal(request)) is not None:
            self._refuse(call, request, reason)
            self._endpoint.release(message)
            return
        assert self._cell is not None
        model = self._offered[request.model]
        self._sink.emit(
            SubcallRequested(
                call=call,
                cell=self._cell,
                model=model.name,
                prompt=request.prompt,
                asked=request.model,
                max_output_tokens=self._max_reply_tokens,
            )
        )
        started = time.monotonic()
        task = self._tasks.create_task(self._answer(call, request, model, started))
        self._in_flight[request.id] = task

        def done(task: asyncio.Task[None]) -> None:
            del self._in_flight[request.id]
            if task.cancelled():
                self._failed(call, request.id, asyncio.CancelledError(), started)
            self._endpoint.release(message)
            if self._waiting:
                self._take_next()

        task.add_done_callback(done)

    def _take_next(self) -> None:
        try:
            self._take(self._waiting.popleft())
        except RlmKernelError as error:
            self._endpoint.fail(error)

    def _refusal(self, request: SubcallMessage) -> str | None:
        if self._cell is None:
            return "no cell is running: wait for threads and tasks before the cell ends"
        if request.model not in self._offered:
            return f"the model {str(request.model)[:100]!r} is not allowed here; leave it out for the default one"
        return None

    def _refuse(self, call: str, request: SubcallMessage, reason: str) -> None:
        self._refused += 1
        if self._refused <= REFUSALS_RECORDED:
            self._sink.emit(
                SubcallRefused(
                    call=call,
                    cell=self._cell,
                    reason=reason,
                    asked=request.model,
                    prompt=request.prompt[:1000],
                    prompt_length=len(request.prompt),
                )
            )
        self._reply_error(request.id, ErrorCode.REFUSED, reason)

    async def _answer(self, call: str, request: SubcallMessage, model: Model, started: float) -> None:
        def on_retry(attempt: int, error: BaseException, wait: float) -> None:
            self._record(
                ModelRetried(
                    call=call,
                    attempt=attempt,
                    error=type(error).__name__,
                    message=str(error),
                    wait=wait,
                    usage=getattr(error, "usage", None),
                )
            )

        async with self._parallel:
            try:
                completion = await model.complete(
                    ModelRequest(
                        messages=(Message(role="user", content=request.prompt),),
                        max_output_tokens=self._max_reply_tokens,
                        on_retry=on_retry,
                    )
                )
            except Exception as error:  # noqa: BLE001 - a sub-call's failure, a bug included, must not end the session
                self._failed(call, request.id, error, started)
                return
            self._record(
                SubcallReplied(
                    call=call,
                    text=completion.text,
                    finish_reason=completion.finish_reason,
                    usage=completion.usage,
                    seconds=time.monotonic() - started,
                    attempts=completion.attempts,
                    served_by=completion.served_by,
                    reply_id=completion.reply_id,
                )
            )
            self._reply(request.id, {"text": completion.text})
            with suppress(asyncio.CancelledError, RlmKernelError):  # answered, whatever comes now
                await self._endpoint.sent(Channel.SUBCALL)

    def _failed(self, call: str, request_id: int, error: BaseException, started: float) -> None:
        code, public = _told(error)
        self._record(
            SubcallFailed(
                call=call,
                code=code,
                error=type(error).__name__,
                message=str(error),
                seconds=time.monotonic() - started,
                usage=getattr(error, "usage", None),
                told=public,
            )
        )
        self._reply_error(request_id, code, public)

    def _record(self, event: AnyEvent) -> None:
        """Record what happened in a task of ours; a recording that fails ends the session, not the task alone."""
        try:
            self._sink.emit(event)
        except RlmKernelError as error:
            self._endpoint.fail(error)

    def _reply_error(self, request_id: int, code: ErrorCode, message: str) -> None:
        self._reply(request_id, {"error": {"code": code.value, "message": message}})

    def _reply(self, request_id: int, content: dict[str, JSON]) -> None:
        payload = msgspec.json.encode({"id": request_id, **content})
        if len(payload) > LIMITS[Channel.SUBCALL].message:
            self._reply_error(request_id, ErrorCode.FAILED, "the answer is too long for the sandbox")
        elif not self._endpoint.lost.done():
            self._endpoint.send(Channel.SUBCALL, payload)


_TOLD: tuple[tuple[type[BaseException], ErrorCode, str], ...] = (
    (BudgetExceeded, ErrorCode.BUDGET_EXCEEDED, "the run's budget is spent"),
    (DepthExceeded, ErrorCode.DEPTH_EXCEEDED, "the run's depth limit is reached"),
    (RetryableModelError, ErrorCode.MODEL_UNAVAILABLE, "the model is unavailable after all retries"),
    (ModelRejected, ErrorCode.FAILED, "the provider rejected the request; a shorter prompt may help"),
    (asyncio.CancelledError, ErrorCode.FAILED, "the sub-call was cancelled"),
    (BaseException, ErrorCode.FAILED, "the sub-call failed"),
)
"""What the guest is told of an error: its kind in words of our own; the first class that fits counts."""


def _told(error: BaseException) -> tuple[ErrorCode, str]:
    if isinstance(error, KnownFailure):
        return ErrorCode(error.code), error.told
    code, text = next((code, text) for kind, code, text in _TOLD if isinstance(error, kind))
    return code, f"{text} ({type(error).__name__})" if isinstance(error, RlmKernelError) else text
