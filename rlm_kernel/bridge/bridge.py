"""The bridge: sub-calls in from the guest, checked against the host's state, answers of sub-models out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
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

MAX_IN_FLIGHT = 10_000


class SubcallMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the guest sends for one sub-call; `id` is its own."""

    id: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    prompt: Annotated[str, msgspec.Meta(min_length=1)]
    model: Annotated[str, msgspec.Meta(max_length=200)] | None = None


class Bridge:
    """Answers sub-calls with `models`: the allow-list by name, None being the default.

    Use as an async context manager; leaving it cancels what is in flight, at the provider too. A call is taken only
    while `cell` names the running cell. Nothing in a guest's message can change which models, limits or keys apply,
    and no error text from a provider, which may name hosts or paths, goes into the container.
    """

    def __init__(
        self, endpoint: Endpoint, models: Mapping[str | None, Model], sink: EventSink, max_output_tokens: int | None
    ) -> None:
        self.cell: int | None = None
        self._endpoint = endpoint
        self._models = models
        self._sink = sink
        self._max_output_tokens = max_output_tokens
        self._calls = 0
        self._in_flight: dict[int, asyncio.Task[None]] = {}
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Bridge:
        await self._tasks.__aenter__()
        self._endpoint.handle(Channel.SUBCALL, self._on_message)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.cell = None
        self.cancel_all()
        await self._tasks.__aexit__(None, None, None)

    def cancel_all(self) -> None:
        """Cancel every sub-call in flight; the guest is told that each one failed."""
        for task in self._in_flight.values():
            task.cancel()

    def _on_message(self, message: WireMessage) -> None:
        try:
            request = msgspec.json.decode(message.payload, type=SubcallMessage)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise GuestProtocolError(f"the container sent a malformed sub-call: {error}") from None
        if request.id in self._in_flight:
            raise GuestProtocolError(f"the container used the id {request.id} for two sub-calls at once")
        self._calls += 1
        call = f"s{self._calls}"
        if (reason := self._refusal(request)) is not None:
            self._sink.emit(SubcallRefused(call=call, reason=reason, model=request.model, prompt=request.prompt))
            self._endpoint.release(message)
            self._reply_error(request.id, ErrorCode.REFUSED, reason)
            return
        model = self._models[request.model]
        cell = self.cell or 0
        self._sink.emit(SubcallRequested(call=call, cell=cell, model=model.name, prompt=request.prompt))
        started = time.monotonic()
        task = self._tasks.create_task(self._answer(call, request, model, started))
        self._in_flight[request.id] = task

        def done(task: asyncio.Task[None]) -> None:
            del self._in_flight[request.id]
            if task.cancelled():
                self._failed(call, request.id, asyncio.CancelledError(), started)
            self._endpoint.release(message)

        task.add_done_callback(done)

    def _refusal(self, request: SubcallMessage) -> str | None:
        if self.cell is None:
            return "no cell is running: wait for threads and tasks before the cell ends"
        if len(self._in_flight) >= MAX_IN_FLIGHT:
            return f"more than {MAX_IN_FLIGHT} sub-calls are in flight"
        if request.model not in self._models:
            allowed = ", ".join(sorted(name for name in self._models if name is not None))
            return f"the model {request.model!r} is not allowed here; allowed: {allowed}"
        return None

    async def _answer(self, call: str, request: SubcallMessage, model: Model, started: float) -> None:
        def on_retry(attempt: int, error: BaseException, wait: float) -> None:
            self._record(
                ModelRetried(call=call, attempt=attempt, error=type(error).__name__, message=str(error), wait=wait)
            )

        try:
            completion = await model.complete(
                ModelRequest(
                    messages=(Message(role="user", content=request.prompt),),
                    max_output_tokens=self._max_output_tokens,
                    on_retry=on_retry,
                )
            )
        except Exception as error:  # noqa: BLE001 - one sub-call's failure, a bug included, must not end the session
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
        self._reply({"id": request.id, "text": completion.text})

    def _failed(self, call: str, request_id: int, error: BaseException, started: float) -> None:
        code, public = _told(error)
        self._record(
            SubcallFailed(
                call=call,
                code=code,
                error=type(error).__name__,
                message=str(error),
                seconds=time.monotonic() - started,
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
        self._reply({"id": request_id, "error": {"code": code.value, "message": message}})

    def _reply(self, content: dict[str, JSON]) -> None:
        payload = msgspec.json.encode(content)
        if len(payload) > LIMITS[Channel.SUBCALL].message:
            self._reply_error(int(str(content["id"])), ErrorCode.FAILED, "the answer is too long for the sandbox")
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
    code, text = next((code, text) for kind, code, text in _TOLD if isinstance(error, kind))
    return code, f"{text} ({type(error).__name__})" if isinstance(error, RlmKernelError) else text
