"""The bridge: sub-calls in from the guest, checked against the host's state, answers of sub-models out."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager, nullcontext, suppress

import msgspec

from rlm_kernel.bridge.kinds import Kind, Offer, Refusal, Taken, kinds
from rlm_kernel.bridge.messages import SubcallMessage, read_message
from rlm_kernel.bridge.told import told
from rlm_kernel.errors import GuestProtocolError, RlmKernelError
from rlm_kernel.events import AnyEvent, EventSink, ModelRetried, Notice
from rlm_kernel.guest.wire import LIMITS, MIB, Channel, ErrorCode
from rlm_kernel.guest.wire import Message as WireMessage
from rlm_kernel.stream import Endpoint
from rlm_kernel.types import JSON

Waiting = Callable[[], AbstractContextManager[None]]

MAX_IN_FLIGHT = 1_000
TAKEN_AT_ONCE = 500
UNREAD = MIB
"""Bytes of answers that may wait for the guest to read without holding up other calls."""
REFUSALS_RECORDED = 100
_NO_CELL = Refusal("no cell is running: wait for threads and tasks before the cell ends")


class Bridge:
    """Answers sub-calls with what `offer` allows.

    Use as an async context manager; leaving it cancels what is in flight, at the provider too. A sub-call is taken
    only while a cell runs (`open_for`) and ends with it. At most `parallel` are with a model or, behind `UNREAD` bytes
    of others, have an answer that the guest has not read; `MAX_IN_FLIGHT` are taken; others wait, and their bytes count
    against the stream's window. Those that wait for a session of their own count only once that has answered.
    Nothing in a guest's message can change which models, limits or keys apply, and no error text from a provider, which
    may name hosts or paths, goes into the container.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        offer: Offer,
        sink: EventSink,
        *,
        parallel: int,
        max_reply_tokens: int | None = None,
    ) -> None:
        self._parallel = asyncio.Semaphore(parallel)
        self._endpoint = endpoint
        self.offer = offer
        """What cells may call."""
        self._offered = offer
        self._sink = sink
        self._max_reply_tokens = max_reply_tokens
        self._kinds = kinds(offer, max_reply_tokens)
        self._cell: int | None = None
        self._waiting_for_sessions: Waiting = nullcontext
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

    @contextmanager
    def open_for(self, cell: int, offer: Offer | None = None, *, waiting: Waiting = nullcontext) -> Iterator[None]:
        """Take sub-calls as those of `cell`, for what `offer` has in place of the usual if it is given.

        Those without an answer at the end are cancelled. Each that waits for a session of its own does so in a block of
        `waiting()`.
        """
        self._cell, self._waiting_for_sessions = cell, waiting
        self._offered = offer or self.offer
        self._kinds = kinds(self._offered, self._max_reply_tokens)
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
        ended, self._waiting = self._waiting, deque()
        self._refuse_ended(ended, self._endpoint)
        if self._refused > REFUSALS_RECORDED:
            self._record(Notice(message=f"{self._refused - REFUSALS_RECORDED} more sub-calls were refused"))
        self._refused = 0

    def _refuse_ended(self, ended: deque[WireMessage], endpoint: Endpoint) -> None:
        """Refuse what waited as its cell ended, whichever runs by now, and pause after many."""
        if endpoint is not self._endpoint or endpoint.lost.done():
            return
        for _ in range(min(TAKEN_AT_ONCE, len(ended))):
            self._take_first(ended, None)
        if ended:
            asyncio.get_running_loop().call_soon(self._refuse_ended, ended, endpoint)

    def _on_message(self, message: WireMessage) -> None:
        if self._waiting or len(self._in_flight) >= MAX_IN_FLIGHT:
            self._waiting.append(message)
        else:
            self._take(message, self._cell)

    def _take(self, message: WireMessage, cell: int | None) -> None:
        request = read_message(message.payload)
        if request.id in self._in_flight:
            raise GuestProtocolError(f"the container used the id {request.id} for two sub-calls at once")
        self._calls += 1
        call = f"s{self._calls}"
        kind = self._kinds[type(request)]
        refusal = _NO_CELL if cell is None else self._offered.refusal(request) or kind.refusal(request)
        if refusal is not None:
            self._refuse(kind.refused(call, cell, request, refusal.reason), request, refusal)
            self._endpoint.release_answered(message)
            return
        assert cell is not None
        self._sink.emit(kind.requested(call, cell, request))
        taken = Taken(
            call=call,
            cell=cell,
            message=request,
            started=time.monotonic(),
            takes_room=not (kind.waits or self._offered.known),
            on_retry=lambda *failed: self._record(ModelRetried.of(call, *failed)),
        )
        task = self._tasks.create_task(self._answer(taken, kind))
        self._in_flight[request.id] = task

        def done(task: asyncio.Task[None]) -> None:
            del self._in_flight[request.id]
            if task.cancelled():
                self._failed(taken, kind, asyncio.CancelledError())
            self._endpoint.release_answered(message)
            self._take_next()

        task.add_done_callback(done)

    def _take_next(self) -> None:
        """Take what waits as far as there is room, which refusals leave, and pause after many of them."""
        for _ in range(TAKEN_AT_ONCE):
            if not self._waiting or len(self._in_flight) >= MAX_IN_FLIGHT:
                return
            self._take_first(self._waiting, self._cell)
        asyncio.get_running_loop().call_soon(self._take_next)

    def _take_first(self, waiting: deque[WireMessage], cell: int | None) -> None:
        try:
            self._take(waiting.popleft(), cell)
        except RlmKernelError as error:
            self._endpoint.fail(error)

    def _refuse(self, refused: AnyEvent, request: SubcallMessage, refusal: Refusal) -> None:
        self._refused += 1
        if self._refused <= REFUSALS_RECORDED:
            self._sink.emit(refused)
        self._reply_error(request.id, refusal.code, refusal.reason)

    async def _answer(self, taken: Taken, kind: Kind) -> None:
        async with AsyncExitStack() as room:
            if taken.takes_room:
                await room.enter_async_context(self._parallel)
            try:
                with self._waiting_for_sessions() if kind.waits else nullcontext():
                    answer = await kind.answer(taken)
            except Exception as error:  # noqa: BLE001 - a sub-call's failure, a bug included, must not end the session
                self._failed(taken, kind, error)
                return
            if not taken.takes_room:
                await room.enter_async_context(self._parallel)
            self._record(answer.event)
            self._reply(taken.message.id, answer.content)
            with suppress(asyncio.CancelledError, RlmKernelError):  # answered, whatever comes now
                await self._endpoint.sent(Channel.SUBCALL, but=UNREAD)

    def _failed(self, taken: Taken, kind: Kind, error: BaseException) -> None:
        code, public = told(error)
        self._record(kind.failed(taken, error, code, public))
        self._reply_error(taken.message.id, code, public)

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
