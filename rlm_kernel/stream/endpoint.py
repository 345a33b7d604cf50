"""A `Wire` on an asyncio transport: bytes from the guest become calls of handlers, in the order of arrival."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from rlm_kernel.errors import GuestProtocolError, RlmKernelError, SandboxLost
from rlm_kernel.guest.wire import Channel, Message, Wire, WireError

Handler = Callable[[Message], None]
READ_SIZE = 64 * 1024
"""Bytes read at a time; of the smallest frames these are 10,000."""

TURN = 0.005
"""Seconds of this process's time that what was read at a time may take without a pause."""

PAUSE = 4
"""How many times as long as a longer turn took its guest then waits, so that no guest takes the time of others."""

HOST_ACCEPTS = frozenset(Channel) - {Channel.CONTEXT}


class Endpoint(asyncio.BufferedProtocol):
    """The host's end of one session's stream.

    A handler is called with each message of its channel and gives the message back with `release` when it has dealt
    with it; messages of a channel without a handler wait, bounded by the channel's window. An `RlmKernelError` that
    a handler raises ends the stream. `lost` is done, with the reason, once the stream
    has ended for any reason but `close`.
    """

    def __init__(self, unwrap: Callable[[bytes], bytes] | None = None) -> None:
        """`unwrap` takes off what a carrier puts around the guest's bytes; it may raise `WireError`."""
        self._wire = Wire(accepts=HOST_ACCEPTS)
        self._unwrap = unwrap
        self._transport: asyncio.Transport | None = None
        self._handlers: dict[Channel, Handler] = {}
        self._waiting: dict[Channel, list[Message]] = {}
        self._answered: deque[Message] = deque()
        self._progress = asyncio.Event()
        self._read = memoryview(bytearray(READ_SIZE))  # a part of it is no copy, which the TLS transport relies on
        self._resting = self._stuck = False
        self._flushing = False
        self.lost: asyncio.Future[RlmKernelError] = asyncio.get_running_loop().create_future()

    def handle(self, channel: Channel, handler: Handler) -> None:
        """Let `handler` take the channel's messages, those that wait included."""
        self._handlers[channel] = handler
        for message in self._waiting.pop(channel, ()):
            self._dispatch(message)

    async def receive(self, channel: Channel) -> Message:
        """Return the channel's next message, before it has a handler. Raise why the stream was lost."""
        first: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        def take(message: Message) -> None:
            del self._handlers[channel]
            first.set_result(message)

        self.handle(channel, take)
        try:
            ends: set[asyncio.Future[Any]] = {first, self.lost}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._handlers.pop(channel, None)
        if first.done():
            return first.result()
        raise self.lost.result()

    def send(self, channel: Channel, payload: bytes) -> None:
        """Send one message, as far as the guest's window allows now, the rest later. A lost stream drops it."""
        self._wire.send(channel, payload)
        self._flush_soon()

    def ping(self) -> None:
        """Ask the guest for a sign of life."""
        self._wire.ping()
        self._flush_soon()

    @property
    def unanswered(self) -> int:
        """How many pings the guest has not answered."""
        return self._wire.unanswered

    async def answers(self, within: float) -> bool:
        """Ping, and tell whether the guest has answered every ping within so many seconds."""
        self.ping()
        with suppress(TimeoutError, RlmKernelError):
            async with asyncio.timeout(within):
                while self._wire.unanswered:
                    await self._advance()
        return not self._wire.unanswered and not self.lost.done()

    async def sent(self, channel: Channel, *, but: int = 0) -> None:
        """Return when all that was sent on `channel`, `but` for so many bytes, is on its way.

        Raise why the stream was lost.
        """
        while self._wire.queued(channel) > but:
            await self._advance()

    async def _advance(self) -> None:
        if self.lost.done():
            raise self.lost.result()
        self._progress.clear()
        await self._progress.wait()

    def release(self, message: Message) -> None:
        """Give back the room that `message` took."""
        self._wire.release(message)
        self._flush_soon()

    def release_answered(self, message: Message) -> None:
        """Give back the room that `message` took once all that was sent on its channel is on its way.

        So a guest that makes no room for answers can't have any number of them pile up here.
        """
        self._answered.append(message)
        self._flush_soon()

    def fail(self, error: RlmKernelError) -> None:
        """End the stream because of `error`."""
        if not self.lost.done():
            self.lost.set_result(error)
        self._progress.set()
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """End the stream; the guest ends with it. Safe to call twice."""
        self.fail(SandboxLost("the session was closed"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._flush()

    def pause_writing(self) -> None:
        # What is read makes something to write, its credits at least: who reads nothing may not go on sending.
        self._stuck = True
        self._read_or_wait()

    def resume_writing(self) -> None:
        self._stuck = False
        self._read_or_wait()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._read

    def buffer_updated(self, nbytes: int) -> None:
        started = time.thread_time()
        self.feed(bytes(self._read[:nbytes]))
        if (taken := time.thread_time() - started) > TURN:
            self._resting = True
            self._read_or_wait()
            asyncio.get_running_loop().call_later(taken * PAUSE, self._rested)

    def _rested(self) -> None:
        self._resting = False
        self._read_or_wait()

    def _read_or_wait(self) -> None:
        if self._transport is None:
            return
        if self._stuck or self._resting:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def feed(self, data: bytes) -> None:
        """Take bytes of the guest, as they were read."""
        try:
            messages = self._wire.receive(data if self._unwrap is None else self._unwrap(data))
        except WireError as error:
            self.fail(GuestProtocolError(f"the container broke the stream's protocol: {error}"))
            return
        for message in messages:
            self._dispatch(message)
        self._flush_soon()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.fail(SandboxLost("the container ended, or its stream to the host did" + (f": {exc}" if exc else "")))

    def _dispatch(self, message: Message) -> None:
        if self.lost.done():
            return
        handler = self._handlers.get(message.channel)
        if handler is None:
            self._waiting.setdefault(message.channel, []).append(message)
            return
        try:
            handler(message)
        except RlmKernelError as error:
            self.fail(error)

    def _flush_soon(self) -> None:
        """Flush once in this turn of the loop, however much was sent and released: each write wakes the guest."""
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        self._write()
        while self._answered and not self._wire.queued(self._answered[0].channel):
            self._wire.release(self._answered.popleft())
        self._write()
        self._progress.set()

    def _write(self) -> None:
        while self._transport is not None and (data := self._wire.data_to_send()):
            self._transport.write(data)
