"""A cell's recorded answers, given again in the order in which they came."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice
from typing import Literal, Protocol

from rlm_kernel.bridge import Refusal
from rlm_kernel.errors import ReplayMismatch, RlmKernelError
from rlm_kernel.models.model import Completion
from rlm_kernel.recording.tape import NodeTape, refusal_key
from rlm_kernel.recording.taped import TapedCall, TapedCell
from rlm_kernel.session import Asking, CallKey, digest

PATIENCE, LONGEST_PATIENCE = 5.0, 600.0
"""Seconds that an answer waits, beside twice the time that it took, for a call before it that is not made, and at most,
as that time may be a stranger's word."""
REFUSALS_RECORDED = 100
MOST_TRIED = 1_000
"""Of calls with redacted texts as many are held against one that is made."""


GAP = 0.02
"""Seconds at most between two answers: what follows on one in the cell goes before the other then, as it did."""


class Queue:
    """Lets calls that have their answers go on in the order of their recorded ends."""

    def __init__(self, calls: Iterable[TapedCall], late: Callable[[TapedCall], None]) -> None:
        """`late` is told of a call that others waited for in vain."""
        self._due = deque(sorted((call for call in calls if call.answered), key=lambda call: call.call.ended or 0))
        self._latest: dict[TapedCall, float] = {}
        latest = 0.0
        for call in self._due:
            latest = max(latest, call.at)
            self._latest[call] = latest
        self._asked: set[TapedCall] = set()
        self._ready: dict[TapedCall, asyncio.Future[None]] = {}
        self._over: set[TapedCall] = set()
        self._late = late
        self._let: set[TapedCall] = set()
        self._last = math.inf

    def asked(self, call: TapedCall) -> None:
        """Take note that a call is made."""
        self._asked.add(call)

    async def turn(self, call: TapedCall) -> None:
        """Wait until the answers before this one were given, as far as their calls are made in time.

        An answer that came a while after the one before it comes a little after that again.
        """
        ready = self._ready[call] = asyncio.get_running_loop().create_future()
        self._advance()
        patience = min(PATIENCE + 2 * max(0.0, self._latest.get(call, 0.0) - call.at), LONGEST_PATIENCE)
        try:
            while not ready.done():
                given = len(self._over)
                await asyncio.wait([ready], timeout=patience)
                if len(self._over) == given and not ready.done():
                    self._pass_over(call)
                    await ready
        finally:
            self.over(call)

    def over(self, call: TapedCall) -> None:
        """Wait for a call no more: it has its answer, or nobody waits for that."""
        self._over.add(call)
        self._advance()

    def _pass_over(self, waits: TapedCall) -> None:
        for call in self._due:
            if call is waits:
                break
            if call not in self._asked:
                self._over.add(call)
                self._late(call)
        self._advance()

    def _advance(self) -> None:
        """Let the first that is due go on if it has its answer; the next one once that is given."""
        while self._due and self._due[0] in self._over:
            self._due.popleft()
        if not self._due or self._due[0] not in self._ready or self._due[0] in self._let:
            return
        call = self._due[0]
        self._let.add(call)
        loop, ended = asyncio.get_running_loop(), call.ended_at or 0.0
        gap, self._last = min(GAP, max(0.0, ended - self._last)), ended
        loop.call_later(gap, _let, self._ready[call])


def _let(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


class Played(Protocol):
    """What a cell's answers need of its session."""

    @property
    def tape(self) -> NodeTape:
        """The session's tape."""

    @property
    def is_live(self) -> bool:
        """Whether models stand behind the tape."""

    @property
    def is_strict(self) -> bool:
        """Whether a call that is not on the tape ends the run, in a cell that had its end."""

    def found(self, call: TapedCall, asking: Asking) -> None:
        """Take note of what a call is on the tape."""

    def reached(self, place: int) -> None:
        """Take note that the recording was followed up to there."""

    def missing(self, cell: int, asking: Asking) -> None:
        """Take note of a call that is not on the tape."""

    def late(self, cell: int, call: TapedCall) -> None:
        """Take note of a call that others waited for in vain."""

    def go_live(self) -> None:
        """Take note of a live call beyond the tape."""


class CellAnswers:
    """The answers of one cell; `others` are those of cells before it that were not asked for, by key."""

    def __init__(self, played: Played, cell: TapedCell, others: dict[CallKey, deque[TapedCall]]) -> None:
        self._played = played
        self._cell = cell
        self._whole = cell.seconds is not None
        self._calls: dict[CallKey, deque[TapedCall]] = defaultdict(deque)
        for call in cell.calls:
            self._calls[call.key].append(call)
        self._others = {} if self._whole else others
        known = [*self._calls.values(), *self._others.values()]
        self._redacted = [calls for calls in known if calls and calls[0].redacted]
        self._due = Counter(_name(call.key) for calls in known for call in calls)
        self._queue = Queue(cell.calls, lambda call: played.late(cell.number, call))

    @property
    def asked(self) -> Sequence[CallKey]:
        """The calls there are answers for."""
        return [*self._calls, *self._others]

    def left(self) -> Iterable[TapedCall]:
        """Yield the answers that were not asked for."""
        for calls in self._calls.values():
            yield from (call for call in calls if call.answered)

    def refused(self, kind: Literal["llm", "tool"], asked: str | None, text: str) -> Refusal | None:
        """Refuse a call that was, beyond those that were taken."""
        if not self._cell.refused:
            return None
        name = _name(CallKey(kind, asked, digest(text)))
        if self._due[name]:
            self._due[name] -= 1
            return None
        known = self._cell.refused.get(refusal_key(kind, asked, text, len(text)))
        if known is None and self._cell.refusals >= REFUSALS_RECORDED and not self._redacted:
            *_, known = self._cell.refused.values()  # only the number of those that came after is recorded
        return known

    async def answer(self, asking: Asking) -> Completion:
        """Give a call what it was given, in its turn; what is not on the tape is a mismatch, or made live."""
        call = self._take(asking.key) or self._take_redacted(asking)
        if call is None:
            return await self._unknown(asking)
        self._played.found(call, asking)
        if not call.answered:
            return await self._never(call, asking)
        self._queue.asked(call)
        try:
            if call.node is not None and not self._played.is_live and asking.behind is not None:
                await _again(asking.behind)
            if call.call.cell == self._cell.number:
                await self._queue.turn(call)
        finally:
            self._queue.over(call)
        self._played.reached(call.call.ended or 0)
        return self._played.tape.answer(call)

    def _take(self, key: CallKey) -> TapedCall | None:
        for calls in (self._calls.get(key), self._others.get(key)):
            if calls:
                return calls.popleft()
        return None

    def _take_redacted(self, asking: Asking) -> TapedCall | None:
        """Take the first call that may be this one, of those whose texts are not recorded in full."""
        for calls in islice(filter(None, self._redacted), MOST_TRIED):
            if self._played.tape.may_be(calls[0], asking.key, asking.text):
                return calls.popleft()
        return None

    async def _never(self, call: TapedCall, asking: Asking) -> Completion:
        """Answer a call that had no answer: live in a cell that had no end, else never, as it ended with its cell."""
        if not self._whole:
            return await self._live(asking)
        await asyncio.sleep(PATIENCE + 2 * (self._cell.seconds or 0.0))
        self._played.missing(self._cell.number, asking)
        raise ReplayMismatch("this call had no answer before its cell ended")

    async def _unknown(self, asking: Asking) -> Completion:
        if self._whole or not self._played.is_live:
            self._played.missing(self._cell.number, asking)
        if not self._played.is_live or (self._whole and self._played.is_strict):
            raise ReplayMismatch("this call is not in the recording")
        return await self._live(asking)

    async def _live(self, asking: Asking) -> Completion:
        if not self._played.is_live or asking.behind is None:
            self._played.missing(self._cell.number, asking)
            raise ReplayMismatch("this call has no answer in the recording, and nothing else can answer it")
        if not self._whole:
            self._played.go_live()
        return await asking.behind()


def _name(key: CallKey) -> tuple[bool, str | None, bytes]:
    """Return what is known of a call that was refused too."""
    return key.kind == "tool", key.asked, key.prompt


async def _again(behind: Callable[[], Awaitable[Completion]]) -> None:
    """Run a session below again; what its parent is given is the recorded answer, whatever comes of it."""
    try:
        await behind()
    except RlmKernelError:
        return
