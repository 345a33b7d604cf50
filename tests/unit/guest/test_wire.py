"""Promises of the wire format, over any split and any interleaving."""

from __future__ import annotations

from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_kernel.guest.wire import (
    CREDIT,
    FLAG_CREDIT,
    FLAG_PING,
    FLAG_PONG,
    FRAME_LIMIT,
    HEADER,
    LIMITS,
    Channel,
    Wire,
    WireError,
)

channels = st.sampled_from(list(Channel))
messages = st.lists(st.tuples(channels, st.binary(min_size=1, max_size=2000)), max_size=30)
big = st.lists(st.tuples(channels, st.integers(1, 3 * FRAME_LIMIT)), min_size=1, max_size=12)


def carry(sender: Wire, receiver: Wire, chunks: list[int] | None = None) -> list[tuple[Channel, bytes]]:
    """Move everything from one wire to the other, the bytes split as `chunks` says."""
    got: list[tuple[Channel, bytes]] = []
    sizes = iter(chunks or [])
    while data := sender.data_to_send():
        while data:
            size = next(sizes, len(data))
            for message in receiver.receive(data[:size]):
                got.append((message.channel, message.payload))
                receiver.release(message)
            data = data[size:]
        sender.receive(receiver.data_to_send())
    return got


@given(messages, st.lists(st.integers(1, 50), max_size=200))
def test_any_split_gives_the_same_messages(sent: list[tuple[Channel, bytes]], chunks: list[int]) -> None:
    """However the bytes are cut up in reading, each channel's messages arrive whole and in order."""
    sender, receiver = Wire(), Wire()
    for channel, payload in sent:
        sender.send(channel, payload)
    got = carry(sender, receiver, chunks)
    for channel in Channel:
        assert [p for c, p in got if c is channel] == [p for c, p in sent if c is channel]


@given(big)
def test_windows_hold_and_open_again(sent: list[tuple[Channel, int]]) -> None:
    """A sender never has more on its way than the window, and with releases all of it arrives."""
    sender, receiver = Wire(), Wire()
    expected: list[tuple[Channel, int]] = []
    for channel, size in sent:
        length = min(size, LIMITS[channel].message)
        sender.send(channel, bytes(length))
        expected.append((channel, length))
    got = [(channel, len(payload)) for channel, payload in carry(sender, receiver)]
    assert sorted(got) == sorted(expected)
    assert not any(sender.queued(channel) for channel in Channel)


@given(channels, st.integers(1, 64))
def test_without_releases_the_sender_stops_at_the_window(channel: Channel, count: int) -> None:
    """What was sent and not released stays within the channel's window, whatever is queued."""
    sender, receiver = Wire(), Wire()
    size = min(FRAME_LIMIT, LIMITS[channel].message)
    for _ in range(count):
        sender.send(channel, bytes(size))
    held = 0
    while data := sender.data_to_send():
        held += sum(message.cost for message in receiver.receive(data))
    assert held <= LIMITS[channel].window


@given(st.binary(max_size=4000), st.lists(st.integers(1, 100), max_size=100))
def test_garbage_is_an_error_or_waits_within_bounds(data: bytes, chunks: list[int]) -> None:
    """Any bytes either raise `WireError` or leave at most a frame and the windows in memory."""
    wire = Wire()
    held = 0
    try:
        for size in [*chunks, len(data)]:
            held += sum(message.cost for message in wire.receive(data[:size]))
            data = data[size:]
    except WireError:
        return
    assert len(wire._buffer) <= HEADER.size + FRAME_LIMIT
    assert held <= sum(limit.window for limit in LIMITS.values())


def test_a_sender_without_manners_is_stopped_at_the_window() -> None:
    """A peer that ignores its window is an error before the receiver holds more than it."""
    wire = Wire()
    frame = HEADER.pack(FRAME_LIMIT, Channel.IOPUB, 1) + bytes(FRAME_LIMIT)
    with pytest.raises(WireError, match="IOPUB"):
        list(map(wire.receive, repeat(frame, 1000)))
    assert sum(len(part) for box in wire._incoming.values() for part in box.parts) <= LIMITS[Channel.IOPUB].window


@pytest.mark.parametrize(
    "data",
    [
        HEADER.pack(1, 99, 0),
        HEADER.pack(1, Channel.SHELL, 8),
        HEADER.pack(0, Channel.SHELL, 0),
        HEADER.pack(FRAME_LIMIT + 1, Channel.SHELL, 0),
        HEADER.pack(3, Channel.SHELL, FLAG_CREDIT),
        HEADER.pack(CREDIT.size, Channel.SHELL, FLAG_CREDIT) + CREDIT.pack(1),
        HEADER.pack(CREDIT.size, Channel.SHELL, FLAG_CREDIT) + CREDIT.pack(0),
        HEADER.pack(1, Channel.CONTROL, FLAG_PING) + b"x",
        HEADER.pack(0, Channel.CONTROL, FLAG_PONG),
    ],
    ids=["channel", "flags", "empty", "long", "credit size", "credit unused", "credit of nothing", "ping", "pong"],
)
def test_each_forbidden_frame_is_an_error(data: bytes) -> None:
    """A frame that the format forbids is refused on its header, or on its credit."""
    with pytest.raises(WireError):
        Wire().receive(data)


def test_a_ping_is_answered_once_and_first() -> None:
    """Each ping brings one pong, ahead of messages, though every window is used up."""
    sender, receiver = Wire(), Wire()
    for _ in range(100):
        receiver.send(Channel.IOPUB, bytes(FRAME_LIMIT))
    while receiver.data_to_send():
        pass
    sender.ping()
    sender.ping()
    assert sender.unanswered == 2
    assert receiver.receive(sender.data_to_send()) == []
    receiver.send(Channel.CONTROL, b"later")
    answer = receiver.data_to_send()
    assert answer.startswith(HEADER.pack(0, Channel.CONTROL, FLAG_PONG) * 2)
    assert [message.payload for message in sender.receive(answer)] == [b"later"]
    assert sender.unanswered == 0


def test_a_channel_that_is_not_accepted_is_an_error() -> None:
    """Messages arrive on the accepted channels only."""
    with pytest.raises(WireError, match="CONTEXT"):
        Wire(frozenset({Channel.SHELL})).receive(HEADER.pack(1, Channel.CONTEXT, 0) + b"x")
