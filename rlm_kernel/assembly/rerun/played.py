"""A session that is led by its tape: its root model, its cells and the sessions below, and what stands behind them."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from rlm_kernel.assembly.rerun.delivery import CellAnswers
from rlm_kernel.assembly.run import Run
from rlm_kernel.budget import Budget
from rlm_kernel.controller.profile import Profile
from rlm_kernel.errors import RecordingEnded, ReplayMismatch, StateDiverged
from rlm_kernel.events import Notice, WentLive
from rlm_kernel.kernel import CellResult
from rlm_kernel.models.model import Completion, Model, ModelRequest, Wrapper
from rlm_kernel.recording import Used
from rlm_kernel.recording.compare.ran import Ran
from rlm_kernel.recording.index import Cell, RootCall
from rlm_kernel.recording.tape import NodeTape, Tape
from rlm_kernel.recording.taped import TapedCall, TapedQuestion
from rlm_kernel.session import Asking, CallKey, PlayedCell

MOST_DIFFERENCES = 100
ENOUGH = 2.0
"""A cell that ended by itself may take so many times as long as cells may."""

MOST_MORE = 256 * 2**20
"""Bytes that a recording of cells that run again may have, beside twice those of the recorded ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A call of a cell that ran again and that the recording does not hold; `call` is its name in the new run."""

    node: str
    cell: int
    call: str
    kind: str


@dataclass(slots=True, kw_only=True)
class Playing:
    """What all sessions of a run that goes on from a recording share.

    `is_live`: models stand behind the tape. `breaks_off`: the question that the tape ends in is not gone on with.
    `used` is charged to the run's budget at the first live call. `nodes` says which recorded session each is. A run
    that `is_strict` ends where a cell does not run again as it had: `diverged` says where.
    """

    tape: Tape
    is_live: bool
    cell_timeout: float
    breaks_off: bool = False
    is_strict: bool = False
    used: Used | None = None
    budget: Budget = field(default_factory=Budget)
    missing: list[Missing] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    nodes: dict[str, str] = field(default_factory=dict)
    diverged: str | None = None
    events: Path | None = None
    """The new run's own recording."""

    def check_room(self) -> None:
        """Raise `ReplayMismatch` where cells of the tape give out far more than they did: they could fill the disk."""
        written = 0 if self.events is None else self.events.stat().st_size
        recorded = self.tape.recording.size
        if written > 2 * recorded + MOST_MORE:
            raise ReplayMismatch(
                f"cells that run again have given out far more than was recorded: {written} bytes are written, and the "
                f"recording has {recorded}"
            )

    def paid(self) -> None:
        """Charge what the recorded run had used, once."""
        used, self.used = self.used, None
        if used is not None:
            again = self.budget.used().seconds or 0.0  # in which what was paid for was only run again
            self.budget.charge(used.usage, subcalls=used.subcalls, seconds=max(0.0, used.seconds - again))

    def check(self) -> None:
        """Raise `StateDiverged` where the run is strict and a cell did not run again as it had."""
        if self.is_strict and self.diverged is not None:
            raise StateDiverged(
                f"the state could not be made anew: {self.diverged}. Go on all the same with --anyway, or from an "
                "earlier turn with `rlm-kernel fork --at`"
            )


class PlayedSession:
    """One session, led by its tape up to its end."""

    def __init__(self, playing: Playing, tape: NodeTape, node: str = "") -> None:
        self.playing = playing
        self.tape = tape
        self.node = node
        self.on_live: Callable[[], None] = lambda: None
        """Called when the tape is used up."""
        self.question = 0
        """The place of the question that is asked."""
        self._asked = 0
        self._spent = deque(tape.spent)
        self._live = False
        self._run: Run
        self._budget: Budget
        self._others: dict[CallKey, deque[TapedCall]] = defaultdict(deque)
        self._calls: dict[str, TapedCall] = {}
        self._answers = self._cells = 0
        self._differences: list[str] = []
        self._again = tape.again()
        self._cell: CellAnswers | None = None
        self._started = time.monotonic()
        playing.nodes[node] = tape.path

    @property
    def is_live(self) -> bool:
        """Whether models stand behind the tape."""
        return self.playing.is_live

    @property
    def is_strict(self) -> bool:
        """Whether a call that is not on the tape ends the run, in a cell that had its end."""
        return self.playing.is_strict

    def begin(self, run: Run, budget: Budget) -> None:
        """Take the session's own."""
        self._run, self._budget = run, budget
        self._after(0)

    def ask(self, number: int) -> None:
        """Begin with a question, by its place."""
        self.question, self._asked = number, 0

    def root(self, model: Model) -> Model:
        """Return the session's root model, with `model` behind it."""
        return _RecordedRoot(self, model)

    def profile(self, profile: Profile) -> Profile:
        """Return how the root model is led while the tape leads: the conversation is kept as short as it was."""
        recorded = self.tape.profile
        return profile if recorded is None else replace(profile, tools=recorded.tools, window=recorded.window)

    def below(self, call: str) -> PlayedSession | None:
        """Return what leads the session that answers a call; None where it is not on the tape."""
        taped = self._calls.get(call)
        tape = None if taped is None or taped.node is None else self.tape.tape.node(taped.node)
        node = f"{self.node}/{call}" if self.node else call
        return None if tape is None else PlayedSession(self.playing, tape, node)

    def before_turn(self) -> None:
        """Raise `RecordingEnded` where another question takes the place of the rest of this one, or had taken it."""
        question = self._question
        if question is None or self._asked < len(question.asked):
            return
        if self._is_broken_off or question.failed == RecordingEnded.__name__:
            raise RecordingEnded("another question is asked from here on, in place of the rest of this one")

    async def reply(self, model: Model, request: ModelRequest) -> Completion:
        """Give the next reply of the root model, beyond the tape that of `model`."""
        asked = self._next()
        if asked is None:
            self.go_live()
            return await model.complete(request)
        self._asked += 1
        assert asked.ended is not None
        self._after(asked.ended)
        reply = self.tape.reply(asked)
        self._answers += 1
        return reply

    def cell(self, number: int) -> PlayedCell | None:
        """Return how a cell runs again, None beyond the tape."""
        if self._live or self.tape.place(number) is None:
            return None
        taped = self.tape.cell(number)
        self._cell = CellAnswers(self, taped, self._others)
        most = ENOUGH * self.playing.cell_timeout
        whole = taped.seconds is not None
        seconds, reason = taped.interrupted or (most if whole else self.playing.cell_timeout, "timed_out")
        return PlayedCell(
            answers=self._cell, seconds=max(0.0, min(seconds, most)), reason=reason, clock=taped.at, whole=whole
        )

    def before_cell(self, number: int) -> None:
        """Raise `RecordingEnded` where a replay comes to a cell that never ended, `ReplayMismatch` to one never run.

        Raise it too where a cell of the tape would be one too many for the disk.
        """
        place, question = self.tape.place(number), self._question
        if place is not None:
            self.playing.check_room()
        if self.is_live:
            used_up = self._is_last and (question is None or self._asked >= len(question.asked))
            if place is None and used_up:
                self.go_live()
            return
        if place is not None and place.finished is not None and place.finished < self.tape.tape.end:
            return
        if place is None and question is not None and question.over and question.failed is None:
            raise ReplayMismatch(f"cell {number} is not in the recording")
        raise _ended(f"cell {number}")

    async def after_cell(self, number: int, result: CellResult) -> None:
        """Spend the budget as it was, and raise `RecordingEnded` where the recorded run was stopped in the cell."""
        answers, self._cell = self._cell, None
        self.playing.check()
        place = self.tape.place(number)
        if answers is None or place is None:
            return
        for call in answers.left():
            self._others[call.key].append(call)
        if place.finished is None:
            return
        self._after(place.finished)
        self._cells += 1
        if (result.status, result.ename) != (was := self.tape.ended(place)):
            self._differences.append(
                f"cell {number} ended with {result.ename or result.status}, not {was[1] or was[0]}"
            )
            if result.status != was[0]:
                self._diverged(self._differences[-1])
                self.playing.check()
        elif self.is_live:
            await self._compare(place, result)
        question = self._question
        stopped = question is not None and question.failed == "CancelledError" and question.last == place.started
        if stopped and not (self.is_live and self._is_last):
            raise _ended(f"cell {number}")

    async def _compare(self, place: Cell, result: CellResult) -> None:
        """Take note of what the cell showed that it had not; a replay is compared as a whole when it is over."""
        final = result.final
        now = Ran(
            cell=place.number,
            turn=place.turn,
            code="",
            at=time.time() - result.seconds,
            status=result.status,
            seconds=result.seconds,
            ename=result.ename,
            evalue=result.evalue,
            cut=result.cut,
            final=None if final is None else final.value,
            final_source=None if final is None else final.source,
            outputs=result.outputs,
        )
        difference = await asyncio.to_thread(self._again.difference, place, now, [*self._run.boxes])
        if difference is not None and len(self._differences) < MOST_DIFFERENCES:
            self._differences.append(difference)

    def found(self, call: TapedCall, asking: Asking) -> None:
        """Take note of what a call is on the tape."""
        self._answers += call.answered
        if call.node is not None:
            self._calls[asking.call] = call

    def reached(self, place: int) -> None:
        """Spend the budget if it was by then."""
        while self._spent and self._spent[0][0] < place:
            _, spent = self._spent.popleft()
            self._budget.spend(spent)

    def missing(self, cell: int, asking: Asking) -> None:
        """Take note of a call that is not on the tape, and say what becomes of it."""
        self.playing.missing.append(Missing(node=self.node, cell=cell, call=asking.call, kind=asking.key.kind))
        goes_on = self.is_live and not self.playing.is_strict
        told = "a live model answers" if goes_on else "it has no answer"
        if self.is_live:
            asked = asking.key.asked or "the sub-model"
            self._diverged(f"cell {cell} made a call that is not in the recording, of {asked}: {asking.text[:200]!r}")
        self._run.emit(Notice(message=f"cell {cell} made a call that is not in the recording, {told}"))
        if goes_on:
            self.playing.paid()

    def _diverged(self, why: str) -> None:
        node = f"in the session {self.node}, " if self.node else ""
        self.playing.diverged = self.playing.diverged or f"{node}{why}"

    def late(self, cell: int, call: TapedCall) -> None:
        """Take note of a call that others waited for in vain."""
        told = f"cell {cell} did not make the recorded call {call.call.name} in time: answers after it go before it"
        self.playing.late.append(f"{self.node}: {told}" if self.node else told)
        self._run.emit(Notice(message=told))

    def go_live(self) -> None:
        """Record, once, that the tape is used up."""
        if self._live:
            return
        self._live = True
        self.playing.paid()
        self.on_live()
        self._run.emit(
            WentLive(
                turn=self._run.turns,
                cells=self._cells,
                answers=self._answers,
                seconds=time.monotonic() - self._started,
                differences=self._differences,
            )
        )

    def _next(self) -> RootCall | None:
        """Return the request to the root model that is due, None where a live one takes its place."""
        if self._live:
            return None
        question, goes_on = self._question, self.is_live and self._is_last and not self._is_broken_off
        if question is not None and self._asked < len(question.asked):
            if not (goes_on and question.failed and question.ends_failing and self._asked == len(question.asked) - 1):
                return question.asked[self._asked]
        elif question is not None and question.over and question.failed is None and not self.is_live:
            raise ReplayMismatch("the root model was asked once more than in the recording")
        if goes_on:
            return None
        raise _ended("the root model's next turn")

    @property
    def _question(self) -> TapedQuestion | None:
        return self.tape.questions[self.question] if self.question < len(self.tape.questions) else None

    @property
    def _is_last(self) -> bool:
        return self.question >= len(self.tape.questions) - 1

    @property
    def _is_broken_off(self) -> bool:
        """Whether the question is the one that the tape ends in, and is not gone on with."""
        return self.playing.breaks_off and not self.node and self._is_last and self._question is not None

    def _after(self, place: int) -> None:
        """Spend the budget where that was recorded before whatever came next."""
        following = self.tape.next_step(place)
        if following is None and self.is_live:
            return
        self.reached(len(self.tape.tape.recording) if following is None else following)


class _RecordedRoot(Wrapper):
    """A session's root model: the recorded replies, and behind them a model."""

    def __init__(self, session: PlayedSession, model: Model) -> None:
        super().__init__(model)
        self._session = session

    async def complete(self, request: ModelRequest) -> Completion:
        """Give the next recorded reply, else ask the model. Raise what was raised, or `RecordingEnded`."""
        return await self._session.reply(self._model, request)


def _ended(what: str) -> RecordingEnded:
    return RecordingEnded(f"the recording ends before {what}: the run was killed, cancelled or failed there")
