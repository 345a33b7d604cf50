"""Two wires in any order of sending, carrying and releasing."""

from __future__ import annotations

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rlm_kernel.guest.wire import FRAME_LIMIT, LIMITS, Channel, Message, Wire, WireError

ENDS = st.sampled_from([0, 1])
CHANNELS = st.sampled_from(list(Channel))


class Wires(RuleBasedStateMachine):
    """Both ends and what is on its way between them; each message is numbered in its first bytes."""

    @initialize()
    def begin(self) -> None:
        """Start with nothing sent."""
        self.wires = (Wire(), Wire())
        self.way = (bytearray(), bytearray())
        self.sent: list[dict[Channel, deque[bytes]]] = [{channel: deque() for channel in Channel} for _ in range(2)]
        self.held: list[list[Message]] = [[], []]
        self.number = 0

    @rule(end=ENDS, channel=CHANNELS, size=st.integers(8, 3 * FRAME_LIMIT))
    def send(self, end: int, channel: Channel, size: int) -> None:
        """Queue a message."""
        size = min(size, LIMITS[channel].message)
        self.number += 1
        payload = self.number.to_bytes(8, "big") + bytes(size - 8)
        self.wires[end].send(channel, payload)
        self.sent[end][channel].append(payload)

    @rule(end=ENDS, limit=st.integers(1, 2**21))
    def write(self, end: int, limit: int) -> None:
        """Put what may be sent on its way."""
        self.way[end].extend(self.wires[end].data_to_send(limit))

    @rule(end=ENDS, size=st.integers(1, 2**21))
    def carry(self, end: int, size: int) -> None:
        """Let some of what `end` has written arrive."""
        data = bytes(self.way[end][:size])
        del self.way[end][:size]
        for message in self.wires[1 - end].receive(data):
            assert message.payload == self.sent[end][message.channel].popleft()
            self.held[1 - end].append(message)

    @rule(end=ENDS, which=st.integers(0, 100))
    def release(self, end: int, which: int) -> None:
        """Give back one message, in any order."""
        if self.held[end]:
            self.wires[end].release(self.held[end].pop(which % len(self.held[end])))

    @rule(end=ENDS)
    def ping(self, end: int) -> None:
        """Ask for a sign of life."""
        self.wires[end].ping()

    @rule(end=ENDS, channel=CHANNELS, extra=st.integers(1, 100))
    def overrun(self, end: int, channel: Channel, extra: int) -> None:
        """A copy of a sender that believes in a larger window is stopped by a copy of the receiver."""
        receiver = Wire()
        liar = Wire()
        liar._outgoing[channel].credit += extra * FRAME_LIMIT
        size = min(FRAME_LIMIT, LIMITS[channel].message)
        for _ in range(LIMITS[channel].window // size + 2):
            liar.send(channel, bytes(size))
        try:
            while data := liar.data_to_send():
                receiver.receive(data)
        except WireError:
            return
        raise AssertionError("the window was overrun")

    @invariant()
    def within_the_windows(self) -> None:
        """Neither end holds more than its windows, in whole messages and in parts."""
        for end in (0, 1):
            for channel, limit in LIMITS.items():
                held = sum(message.cost for message in self.held[end] if message.channel is channel)
                parts = self.wires[end]._incoming[channel]
                assert held + parts.size <= limit.window
                assert 0 <= self.wires[end]._outgoing[channel].credit <= limit.window

    def teardown(self) -> None:
        """In the end everything arrives once, in order, and every window is whole again."""
        if not hasattr(self, "wires"):
            return
        for _ in range(10_000):
            for end in (0, 1):
                for message in self.held[end]:
                    self.wires[end].release(message)
                self.held[end].clear()
                self.write(end, 2**21)
                self.carry(end, 2**22)
            if not any(self.way) and not any(wire._ahead for wire in self.wires) and not self._waiting():
                break
        assert not self._waiting()
        for wire in self.wires:
            assert wire.unanswered == 0
            assert all(wire._outgoing[channel].credit == LIMITS[channel].window for channel in Channel)

    def _waiting(self) -> bool:
        return any(queue for sent in self.sent for queue in sent.values()) or any(self.held)


TestWires = Wires.TestCase
TestWires.settings = settings(max_examples=50, stateful_step_count=30)
