"""The host's end of the stream, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from rlm_kernel.errors import GuestProtocolError, SandboxLost
from rlm_kernel.guest.wire import FRAME_LIMIT, HEADER, LIMITS, Channel, Limit, Message
from rlm_kernel.sandbox.attach import Demultiplexer
from tests.support.guest import guest_and_endpoint


async def test_messages_reach_their_handler_in_order() -> None:
    """Messages of a channel reach its handler in the order they were sent, those from before it was set included."""
    async with guest_and_endpoint() as (guest, endpoint):
        got: list[bytes] = []
        everything = asyncio.Event()

        def take(message: Message) -> None:
            got.append(message.payload)
            endpoint.release(message)
            if len(got) == 3:
                everything.set()

        await guest.say(Channel.IOPUB, b"1")
        await guest.say(Channel.CONTROL, b"hello")
        assert (await endpoint.receive(Channel.CONTROL)).payload == b"hello"
        endpoint.handle(Channel.IOPUB, take)
        await guest.say(Channel.IOPUB, b"2" * FRAME_LIMIT * 2)
        await guest.say(Channel.IOPUB, b"3")
        await asyncio.wait_for(everything.wait(), 5)
        assert [payload[:1] for payload in got] == [b"1", b"2", b"3"]


async def test_the_end_of_the_guest_is_told() -> None:
    """Whoever waits for a message learns that the guest is gone."""
    async with guest_and_endpoint() as (guest, endpoint):
        await guest.close()
        with pytest.raises(SandboxLost):
            await asyncio.wait_for(endpoint.receive(Channel.CONTROL), 5)


async def test_closing_ends_the_guest() -> None:
    """`close` ends the stream at the guest's end too."""
    async with guest_and_endpoint() as (guest, endpoint):
        endpoint.close()
        endpoint.close()
        assert await asyncio.wait_for(guest.ended(), 5)


async def test_a_handler_that_refuses_ends_the_stream() -> None:
    """An error of ours from a handler is the reason that the stream is lost for."""

    def refuse(_: Message) -> None:
        raise GuestProtocolError("no")

    async with guest_and_endpoint() as (guest, endpoint):
        endpoint.handle(Channel.IOPUB, refuse)
        await guest.say(Channel.IOPUB, b"x")
        assert isinstance(await asyncio.wait_for(endpoint.lost, 5), GuestProtocolError)
        assert await guest.ended()


@pytest.mark.parametrize(
    "data",
    [
        HEADER.pack(FRAME_LIMIT + 1, Channel.IOPUB, 0),
        HEADER.pack(0, Channel.IOPUB, 0),
        HEADER.pack(1, 77, 0) + b"x",
        HEADER.pack(1, Channel.IOPUB, 9) + b"x",
        HEADER.pack(1, Channel.CONTEXT, 0) + b"x",
        HEADER.pack(4, Channel.IOPUB, 2) + b"\x00\x00\x00\x01",
        (HEADER.pack(FRAME_LIMIT, Channel.IOPUB, 1) + bytes(FRAME_LIMIT))
        * (LIMITS[Channel.IOPUB].message // FRAME_LIMIT + 1),
        (HEADER.pack(1, Channel.CONTROL, 0) + b"x") * (LIMITS[Channel.CONTROL].window // 65 + 1),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["oversize", "empty", "channel", "flags", "direction", "credit", "message", "window", "http"],
)
async def test_a_broken_protocol_ends_the_stream(data: bytes) -> None:
    """Frames that the protocol forbids end the stream with a `GuestProtocolError`."""
    async with guest_and_endpoint() as (guest, endpoint):
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            await guest.raw(data)
        assert isinstance(await asyncio.wait_for(endpoint.lost, 5), GuestProtocolError)


async def test_a_guest_that_does_not_read_takes_no_memory() -> None:
    """What the host sends without being released stays within the window, and `sent` waits for room."""
    async with guest_and_endpoint() as (guest, endpoint):
        window = LIMITS[Channel.CONTEXT].window
        chunk = bytes(FRAME_LIMIT)

        async def send() -> int:
            sent = 0
            while True:
                endpoint.send(Channel.CONTEXT, chunk)
                await endpoint.sent(Channel.CONTEXT)
                sent += len(chunk)
                assert sent <= window

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(send(), 0.5)
        endpoint.fail(SandboxLost("enough"))
        with pytest.raises(SandboxLost):
            await endpoint.sent(Channel.CONTEXT)
        assert await guest.ended()


async def test_a_guest_that_makes_no_room_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that reads answers and gives nothing back is not let send on and on; once it does, all is answered."""
    monkeypatch.setitem(LIMITS, Channel.SUBCALL, Limit(message=2048, window=64 * 1024))
    calls, fit = 1000, 64 * 1024 // (1024 + 64)
    async with guest_and_endpoint() as (guest, endpoint):
        taken: list[Message] = []

        def take(message: Message) -> None:
            taken.append(message)
            endpoint.send(Channel.SUBCALL, b"a" * 1024)
            endpoint.release_answered(message)

        endpoint.handle(Channel.SUBCALL, take)
        for _ in range(calls):
            guest.wire.send(Channel.SUBCALL, b"q" * 1024)
        with contextlib.suppress(TimeoutError):
            while True:
                await guest.flush()
                await asyncio.wait_for(guest.read_some(), 0.3)
        assert fit <= len(taken) <= 2 * fit + 1
        got = [len(payload) async for payload in guest.bytes_of(Channel.SUBCALL, calls * 1024)]
    assert len(got) == len(taken) == calls


async def test_the_engines_headers_are_taken_off() -> None:
    """Over the attach carrier messages arrive whole however the engine cuts them; other streams are refused."""
    demultiplexer = Demultiplexer()
    wrapped = b"".join(b"\x01\0\0\0" + len(part).to_bytes(4, "big") + part for part in (b"abc", b"", b"defgh"))
    assert b"".join(demultiplexer.feed(wrapped[i : i + 1]) for i in range(len(wrapped))) == b"abcdefgh"
    async with guest_and_endpoint(Demultiplexer().feed) as (guest, endpoint):
        await guest.raw(b"\x02\0\0\0\0\0\0\x01x")
        assert isinstance(await asyncio.wait_for(endpoint.lost, 5), GuestProtocolError)
