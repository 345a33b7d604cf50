"""The framed stream between host and guest, without I/O, used by both ends.

A frame is a header of 6 bytes (payload length: u32, channel: u8, flags: u8; network order) and its payload.
A message is one or more frames of a channel; all but the last carry `MORE`. Every channel has a window: the
sender may have at most that many bytes on the way, `FRAME_COST` counted for each frame, until the receiver has
released them with a `CREDIT` frame. So neither end ever holds more than its windows, whatever the other sends.
Either end answers a `PING` frame with a `PONG` frame; both are empty and take no room in a window.
"""

import enum
import struct
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

PROTOCOL_VERSION = 1
HEADER = struct.Struct("!IBB")
CREDIT = struct.Struct("!I")
FRAME_LIMIT = 256 * 1024
FRAME_COST = 64
"""Bytes of window that a frame costs beyond its payload, so that tiny frames can't fill memory."""

FLAG_MORE = 1
FLAG_CREDIT = 2
FLAG_PING = 4
FLAG_PONG = 8

MIB = 1024 * 1024
MAX_IMAGES = 20
"""Images that may go with one question."""


class Channel(enum.IntEnum):
    """What a frame belongs to; the order is the order of sending."""

    CONTROL = 0
    SHELL = 1
    SUBCALL = 2
    IOPUB = 3
    CONTEXT = 4


class ErrorCode(enum.StrEnum):
    """Why a sub-call has no answer; each end maps these to its own exception classes."""

    FAILED = "failed"
    REFUSED = "refused"
    MODEL_UNAVAILABLE = "model_unavailable"
    BUDGET_EXCEEDED = "budget_exceeded"
    DEPTH_EXCEEDED = "depth_exceeded"


class Limit(NamedTuple):
    """Bytes that one message, and all unreleased messages of a channel, may have."""

    message: int
    window: int


_PING, _PONG = (HEADER.pack(0, Channel.CONTROL, flag) for flag in (FLAG_PING, FLAG_PONG))

LIMITS: dict[Channel, Limit] = {
    Channel.CONTROL: Limit(message=64 * 1024, window=MIB),
    Channel.SHELL: Limit(message=4 * MIB, window=8 * MIB),
    Channel.SUBCALL: Limit(message=8 * MIB, window=32 * MIB),
    Channel.IOPUB: Limit(message=4 * MIB, window=8 * MIB),
    Channel.CONTEXT: Limit(message=FRAME_LIMIT, window=4 * MIB),
}


class WireError(Exception):
    """The other end broke the protocol; the stream can't be used any more."""


@dataclass(frozen=True, slots=True)
class Message:
    """One whole message as received; `cost` is what to release once it is dealt with."""

    channel: Channel
    payload: bytes
    cost: int


class _Incoming:
    """The receiving half of one channel."""

    __slots__ = ("limit", "parts", "size", "unreleased")

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.parts: list[bytes] = []
        self.size = 0
        self.unreleased = 0


class _Outgoing:
    """The sending half of one channel."""

    __slots__ = ("credit", "frames", "queued")

    def __init__(self, limit: Limit) -> None:
        self.credit = limit.window
        self.frames: deque[tuple[int, memoryview]] = deque()
        self.queued = 0


class Wire:
    """One end's state of the stream: bytes in, messages out, and the reverse.

    It does no I/O: feed what was read to `receive`, write what `data_to_send` returns, and call `release` when a
    message has been dealt with. Not thread-safe.
    """

    def __init__(self, accepts: frozenset[Channel] = frozenset(Channel)) -> None:
        """Accept messages on the channels `accepts` only; a frame on another one is a `WireError`."""
        self._accepts = accepts
        self._buffer = bytearray()
        self._incoming = {channel: _Incoming(limit) for channel, limit in LIMITS.items()}
        self._outgoing = {channel: _Outgoing(limit) for channel, limit in LIMITS.items()}
        self._ahead: deque[bytes] = deque()
        self.unanswered = 0
        """How many pings had no answer yet."""

    def send(self, channel: Channel, payload: bytes) -> None:
        """Queue one message. Raise `ValueError` if it is empty or longer than the channel allows."""
        limit = LIMITS[channel].message
        if not 0 < len(payload) <= limit:
            raise ValueError(f"a {channel.name} message has 1 to {limit} bytes, not {len(payload)}")
        out = self._outgoing[channel]
        view = memoryview(payload)
        for start in range(0, len(payload), FRAME_LIMIT):
            last = start + FRAME_LIMIT >= len(payload)
            out.frames.append((0 if last else FLAG_MORE, view[start : start + FRAME_LIMIT]))
        out.queued += len(payload)

    def ping(self) -> None:
        """Ask the other end for a sign of life."""
        self.unanswered += 1
        self._ahead.append(_PING)

    def queued(self, channel: Channel) -> int:
        """Return how many bytes wait to be sent on `channel`, for senders that can wait."""
        return self._outgoing[channel].queued

    def data_to_send(self, limit: int = MIB) -> bytes:
        """Take about `limit` bytes that the other end's windows allow; empty when nothing may be sent now."""
        chunks: list[bytes | memoryview] = list(self._ahead)
        self._ahead.clear()
        size = sum(map(len, chunks))
        for channel, out in self._outgoing.items():
            while out.frames and size < limit:
                flags, payload = out.frames[0]
                cost = len(payload) + FRAME_COST
                if cost > out.credit:
                    break
                out.frames.popleft()
                out.credit -= cost
                out.queued -= len(payload)
                chunks += (HEADER.pack(len(payload), channel, flags), payload)
                size += HEADER.size + len(payload)
        return b"".join(chunks)

    def receive(self, data: bytes) -> list[Message]:
        """Take bytes as they were read and return the messages they complete. Raise `WireError`."""
        buffer = self._buffer
        buffer += data
        messages: list[Message] = []
        start = 0
        while len(buffer) - start >= HEADER.size:
            length, number, flags = HEADER.unpack_from(buffer, start)
            channel = self._check(length, number, flags)
            end = start + HEADER.size + length
            if len(buffer) < end:
                break
            payload = bytes(memoryview(buffer)[start + HEADER.size : end])
            start = end
            if flags == FLAG_CREDIT:
                self._take_credit(channel, payload)
            elif flags == FLAG_PING:
                self._ahead.append(_PONG)
            elif flags == FLAG_PONG:
                self._take_pong()
            elif (message := self._take_frame(channel, payload, flags)) is not None:
                messages.append(message)
        del buffer[:start]
        return messages

    def release(self, message: Message) -> None:
        """Give back the window that `message` took; the next `data_to_send` tells the other end."""
        self._incoming[message.channel].unreleased -= message.cost
        self._ahead.append(HEADER.pack(CREDIT.size, message.channel, FLAG_CREDIT) + CREDIT.pack(message.cost))

    def _check(self, length: int, number: int, flags: int) -> Channel:
        """Judge a header before its payload is waited for."""
        try:
            channel = Channel(number)
        except ValueError:
            raise WireError(f"unknown channel {number}") from None
        if flags == FLAG_CREDIT:
            if length != CREDIT.size:
                raise WireError(f"a credit of {length} bytes")
        elif flags in (FLAG_PING, FLAG_PONG):
            if length:
                raise WireError(f"a ping or pong of {length} bytes")
        elif flags not in (0, FLAG_MORE):
            raise WireError(f"unknown flags {flags}")
        elif channel not in self._accepts:
            raise WireError(f"nothing may arrive on {channel.name}")
        elif not 0 < length <= FRAME_LIMIT:
            raise WireError(f"a frame of {length} bytes")
        return channel

    def _take_credit(self, channel: Channel, payload: bytes) -> None:
        out = self._outgoing[channel]
        (granted,) = CREDIT.unpack(payload)
        out.credit += granted
        if not granted or out.credit > LIMITS[channel].window:
            raise WireError(f"a credit of {granted} bytes for {channel.name}, which is not what was used")

    def _take_pong(self) -> None:
        self.unanswered -= 1
        if self.unanswered < 0:
            raise WireError("a pong that nobody asked for")

    def _take_frame(self, channel: Channel, payload: bytes, flags: int) -> Message | None:
        box = self._incoming[channel]
        box.unreleased += len(payload) + FRAME_COST
        if box.unreleased > box.limit.window:
            raise WireError(f"{channel.name} ran over its window")
        box.parts.append(payload)
        box.size += len(payload)
        if box.size > box.limit.message:
            raise WireError(f"a {channel.name} message over {box.limit.message} bytes")
        if flags == FLAG_MORE:
            return None
        cost = box.size + FRAME_COST * len(box.parts)
        message = Message(channel, box.parts[0] if len(box.parts) == 1 else b"".join(box.parts), cost)
        box.parts, box.size = [], 0
        return message
