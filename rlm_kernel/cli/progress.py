"""The progress display: a reader of events that writes to a terminal, or plain lines elsewhere."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import singledispatchmethod
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from rlm_kernel import events as ev
from rlm_kernel.cli.figures import OUTCOMES, clock_time, count, output_text, size, used
from rlm_kernel.cli.text import clean, one_line
from rlm_kernel.cli.view import HEARD, RunView, TurnView
from rlm_kernel.models.model import TextDelta

_DIFFERENCES = 5
REASONS = {"timed_out": "its time limit", "stopped": "it was stopped", "budget": "the budget is spent"}


class ProgressConsole(Console):
    """A console that falls silent when its reader goes away; rich's own would end the process."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class Progress:
    """Shows a run on `console`: one line for each finished turn, and on a terminal a line that is kept up to date.

    It is an `EventSink` and a context manager. What models and guests wrote is cleaned first.
    """

    def __init__(
        self, console: ProgressConsole, *, verbose: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._verbose = verbose
        self._view = RunView(clock)
        self._spinner = Spinner("dots")
        self._live: Live | None = None
        self._indent = ""

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            live = Live(console=self._console, get_renderable=self._status, refresh_per_second=8, transient=True)
            with self._silent_without_terminal():
                live.start()
                self._live = live
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            with self._silent_without_terminal():
                self._live.stop()

    def emit(self, event: ev.AnyEvent, node: str = "") -> None:
        """Show `event` of the session at `node`; of those below the root, little more than their ends."""
        with self._silent_without_terminal():
            if node:
                self._view.take_below(event, node)
                self._show_below(event, node)
                return
            if isinstance(event, ev.TurnStarted | ev.RunFinished) and self._view.turn is not None:
                self._line(turn_line(self._view.turn, self._view.elapsed))
                self._view.turn = None
            self._view.take(event)
            self._show(event)

    @contextmanager
    def _silent_without_terminal(self) -> Iterator[None]:
        """Fall silent when the terminal was closed: the run that is to end for it must be able to."""
        try:
            yield
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self._console.on_broken_pipe()

    def _show_below(self, event: ev.AnyEvent, node: str) -> None:
        self._indent = f"{'  ' * (node.count('/') + 1)}{node}: "
        try:
            if isinstance(event, ev.RunFinished):
                why = f": {one_line(event.message)}" if event.message else ""
                turns = f"{event.turns} turn{'s' if event.turns != 1 else ''}"
                self._line(f"{event.status} · {turns} · {clock_time(event.seconds)}{why}")
            elif self._verbose or isinstance(event, ev.Notice):
                self._show(event)
        finally:
            self._indent = ""

    @property
    def listener(self) -> Callable[[TextDelta], None] | None:
        """What takes the root model's reply as it comes; None where it would not be seen."""
        return self._view.hear if self._console.is_terminal and not self._console.quiet else None

    def _status(self) -> Text:
        frame = self._spinner.render(self._console.get_time())
        heard = one_line(self._view.heard, HEARD)[-max(0, self._console.width - 4) :]
        text = f"{frame} {status_line(self._view)}" + (f"\n  {heard}" if heard else "")
        return Text(text, no_wrap=True, overflow="ellipsis")

    def _line(self, text: str, style: str = "") -> None:
        self._console.print(Text(self._indent + text, style=style), soft_wrap=True)

    def _block(self, title: str, text: str) -> None:
        if self._verbose:
            self._line(title, "bold")
            self._line("\n".join(f"  {line}" for line in clean(text).rstrip("\n").split("\n")), "dim")

    @singledispatchmethod
    def _show(self, event: ev.AnyEvent) -> None:
        """Print the line that an event of this kind has."""

    @_show.register
    def _(self, event: ev.RunStarted) -> None:
        self._line(f"run {event.run}: {one_line(event.model)}, sub-calls to {one_line(event.sub_model)}")

    @_show.register
    def _(self, event: ev.ContextStored) -> None:
        name = "" if event.name == "context" else f" {one_line(event.name)}"
        self._line(f"context{name}: {one_line(event.source)}, {size(event.size)}")

    @_show.register
    def _(self, event: ev.SandboxStarted) -> None:
        self._line(
            f"container {one_line(event.container)[:12]}: no network, user {event.uid}, its limits were read back"
        )

    @_show.register
    def _(self, event: ev.WentLive) -> None:
        again = f"{event.cells} cell{'s' if event.cells != 1 else ''} ran again"
        self._line(f"{again} in {clock_time(event.seconds)}, as recorded; from here on models are asked")
        for difference in event.differences[:_DIFFERENCES]:
            self._line(f"not as it was: {one_line(difference, 1000)}", "yellow")
        if (more := len(event.differences) - _DIFFERENCES) > 0:
            self._line(f"not as they were: {more} more", "yellow")

    @_show.register
    def _(self, event: ev.Notice) -> None:
        self._line(f"note: {one_line(event.message, 1000)}", "yellow")

    @_show.register
    def _(self, event: ev.BudgetWarning | ev.BudgetSpent) -> None:
        self._line(f"budget: {one_line(event.message)}", "yellow")

    @_show.register
    def _(self, event: ev.KernelLost) -> None:
        lost = f"; lost {one_line(', '.join(event.lost))}" if event.lost else ""
        self._line(f"the kernel is lost: {one_line(event.reason)}{lost}", "yellow")

    @_show.register
    def _(self, event: ev.CellInterrupted) -> None:
        self._line(f"cell {event.cell} is to end after {event.seconds:.1f} s ({REASONS[event.reason]}): {event.step}")

    @_show.register
    def _(self, event: ev.KernelRebuilt) -> None:
        failed = f"; {one_line(event.failed)}" if event.failed else ""
        self._line(f"{len(event.cells)} cells were run again, {len(event.names)} variables are back{failed}", "yellow")

    @_show.register
    def _(self, event: ev.HistoryCompacted) -> None:
        whose = "the model's" if event.by_model else "our"
        size = f"about {count(event.tokens)} tokens"
        self._line(f"the conversation got long, {size}: {event.removed} messages became {whose} summary", "yellow")

    @_show.register
    def _(self, event: ev.ModelRetried) -> None:
        why = f"{event.error}: {one_line(event.message)}"
        self._line(f"attempt {event.attempt} failed, the next one follows in {event.wait:.1f} s: {why}", "yellow")

    @_show.register
    def _(self, event: ev.CellStarted) -> None:
        self._block(f"cell {event.cell}", event.code)

    @_show.register
    def _(self, event: ev.CellOutput) -> None:
        late = ", after its end" if event.late else ""
        self._block(f"output of cell {event.cell}{late}", output_text(event.output))

    @_show.register
    def _(self, event: ev.SubcallFailed) -> None:
        self._block(f"a sub-call of {event.seconds:.1f} s failed ({event.code})", event.message)

    @_show.register
    def _(self, event: ev.SubcallRefused) -> None:
        self._block("a sub-call was refused", event.reason)


def status_line(view: RunView) -> str:
    """Return what is going on now, on one line."""
    parts = []
    if view.turn is not None:
        limit = f"/{view.max_turns}" if view.max_turns else ""
        parts.append(f"turn {view.turn.number}{limit}")
    parts.append(f"{view.doing} {view.doing_for:.1f} s")
    if view.in_flight or view.done or view.failed:
        failed = f", {view.failed} failed" if view.failed else ""
        parts.append(f"sub-calls {len(view.in_flight)} in flight, {view.done} done{failed}")
    if view.below:
        parts.append(f"{len(view.below)} session{'s' if len(view.below) > 1 else ''} below")
    if view.budget is not None:
        parts.append(f"budget {view.budget:.0%}")
    return " · ".join([*parts, *used(view.usage), clock_time(view.elapsed)])


def turn_line(turn: TurnView, elapsed: float) -> str:
    """Return what a finished turn did, on one line."""
    parts = [f"turn {turn.number}"]
    for cell in turn.cells:
        name = f" {one_line(cell.ename, 60)}" if cell.ename else ""
        parts.append(f"cell {cell.cell} {OUTCOMES[cell.status]}{name} in {cell.seconds:.1f} s")
    if not turn.cells:
        parts.append("no code")
    if turn.subcalls:
        failed = f" ({turn.failed} failed)" if turn.failed else ""
        parts.append(f"{turn.subcalls} sub-call{'s' if turn.subcalls > 1 else ''}{failed}")
    return " · ".join([*parts, *used(turn.usage), clock_time(elapsed)])
