"""What is going on in a run, folded from its events."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import singledispatchmethod

from rlm_kernel import events as ev
from rlm_kernel.models.model import TextDelta
from rlm_kernel.types import Usage

HEARD = 2_000
"""Characters that are kept of a reply that is coming."""


@dataclass(slots=True)
class TurnView:
    """What one turn has done so far."""

    number: int
    started: float
    usage: Usage = field(default_factory=Usage)
    cells: list[ev.CellFinished] = field(default_factory=list)
    subcalls: int = 0
    failed: int = 0


class RunView:
    """The state of one run; `take` brings it up to date with an event. Times are those of `clock`, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.started = clock()
        self.doing = "starting"
        self.since = self.started
        self.run: str | None = None
        self.max_turns: int | None = None
        self.turn: TurnView | None = None
        """The turn of the moment, counted from the question that it is for."""
        self._turns = self._earlier = 0
        self.usage = Usage()
        self.budget: float | None = None
        """The greatest share of a limit that is used, as far as events tell; None without limits of tokens or cost."""
        self._limits: dict[str, float] = {}
        self.in_flight: set[str] = set()
        self.below: set[str] = set()
        """The sessions that sub-calls started, by their place in the run."""
        self.heard = ""
        """The end of the reply that is coming."""
        self.done = 0
        self.failed = 0

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self.started

    @property
    def doing_for(self) -> float:
        """Seconds that what is being done has taken."""
        return self._clock() - self.since

    def hear(self, piece: TextDelta) -> None:
        """Take note of a piece of the root model's reply."""
        self.heard = (self.heard + piece.text)[-HEARD:]

    @singledispatchmethod
    def take(self, event: ev.AnyEvent) -> None:
        """Take note of `event`; one that changes nothing here is passed over."""

    def take_below(self, event: ev.AnyEvent, node: str) -> None:
        """Take note of an event of a session that a sub-call started."""
        match event:
            case ev.RunStarted():
                self.below.add(node)
            case ev.RunFinished():
                self.below.discard(node)
            case ev.ModelReplied() | ev.SubcallReplied():
                self._add(event.usage)

    def _begin(self, doing: str) -> None:
        self.doing, self.since = doing, self._clock()

    def _add(self, usage: Usage) -> None:
        self.usage += usage
        used = {
            "max_input_tokens": self.usage.input_tokens,
            "max_output_tokens": self.usage.output_tokens,
            "max_total_tokens": self.usage.total_tokens,
            "max_cost": self.usage.cost_usd,
        }
        shares = [amount / limit for name, limit in self._limits.items() if (amount := used.get(name)) is not None]
        self.budget = max(shares, default=None)
        if self.turn is not None:
            self.turn.usage += usage

    @take.register
    def _(self, event: ev.RunStarted) -> None:
        self.run = event.run
        limit = event.settings.get("max_turns")
        self.max_turns = limit if isinstance(limit, int) else None
        limits = {name: value for name, value in event.settings.items() if name.startswith("max_")}
        self._limits = {name: value for name, value in limits.items() if isinstance(value, int | float) and value}
        self._begin("starting the container")

    @take.register
    def _(self, event: ev.SandboxStarted) -> None:
        self._begin("starting the kernel")

    @take.register
    def _(self, event: ev.QuestionAsked) -> None:
        self._earlier = self._turns

    @take.register
    def _(self, event: ev.TurnStarted) -> None:
        self._turns = event.turn
        self.turn = TurnView(event.turn - self._earlier, self._clock())

    @take.register
    def _(self, event: ev.ModelRequested) -> None:
        self._begin("waiting for the model")
        self.heard = ""

    @take.register
    def _(self, event: ev.ModelReplied) -> None:
        self._add(event.usage)
        self.heard = ""

    @take.register
    def _(self, event: ev.ModelRetried | ev.ModelFailed) -> None:
        self.heard = ""  # what came before the failure is no part of the next attempt's reply

    @take.register
    def _(self, event: ev.CellStarted) -> None:
        self._begin(f"running cell {event.cell}")

    @take.register
    def _(self, event: ev.CellFinished) -> None:
        if self.turn is not None:
            self.turn.cells.append(event)
        self._begin("working")

    @take.register
    def _(self, event: ev.SubcallRequested) -> None:
        self.in_flight.add(event.call)
        if self.turn is not None:
            self.turn.subcalls += 1

    @take.register
    def _(self, event: ev.SubcallReplied) -> None:
        self.in_flight.discard(event.call)
        self.done += 1
        self._add(event.usage)

    @take.register
    def _(self, event: ev.SubcallFailed) -> None:
        self.in_flight.discard(event.call)
        self._count_failure()

    @take.register
    def _(self, event: ev.SubcallRefused) -> None:
        self._count_failure()

    @take.register
    def _(self, event: ev.AnswerGiven) -> None:
        self._begin("removing the container")

    def _count_failure(self) -> None:
        self.failed += 1
        if self.turn is not None:
            self.turn.failed += 1
