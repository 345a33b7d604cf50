"""The progress display, fed with events as a run emits them."""

from __future__ import annotations

import errno
import io
import os
from contextlib import suppress

import msgspec
import pytest

from rlm_kernel import events as ev
from rlm_kernel.cli.figures import clock_time, cost, count, output_text, size
from rlm_kernel.cli.progress import Progress, ProgressConsole, status_line
from rlm_kernel.cli.view import RunView
from rlm_kernel.models.model import TextDelta
from rlm_kernel.types import JSON, Usage


class Clock:
    """A clock that stands still unless told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def usage(tokens: int, dollars: float | None) -> Usage:
    """One call's usage."""
    return Usage(calls=1, input_tokens=tokens, output_tokens=tokens // 10, cost_usd=dollars)


def opening() -> list[ev.AnyEvent]:
    """A run's events up to two sub-calls in its first cell."""
    return [
        ev.RunStarted(
            run="r1",
            question="q",
            model="openai:a",
            sub_model="openai:b",
            package_version="0",
            python_version="3",
            settings={"max_turns": 30},
        ),
        ev.ContextStored(digest="d", kind="str", size=40_000_000, source="/tmp/\x1b[31mbook.txt"),
        ev.SandboxStarted(
            runtime="docker",
            oci_runtime="runc",
            engine="e",
            container="c" * 64,
            image="i",
            image_id="sha256:i",
            carrier="socket",
            uid=40_001,
            seen={},
        ),
        ev.KernelReady(generation=1, context_type="str", context_length=5),
        ev.TurnStarted(turn=1),
        ev.ModelRequested(call="m1", model="openai:a", history=0, messages=[]),
        ev.ModelReplied(
            call="m1", text="", finish_reason="stop", usage=usage(1000, 0.01), seconds=1, attempts=1, served_by="a"
        ),
        ev.CellStarted(cell=1, turn=1, code="print('[bold]hi[/bold]')\x1b]0;owned\x07"),
        ev.SubcallRequested(call="s1", cell=1, model="openai:b", prompt="p"),
        ev.SubcallRequested(call="s2", cell=1, model="openai:b", prompt="p"),
        ev.SubcallRequested(call="s3", cell=1, model="openai:b", prompt="p"),
    ]


def closing() -> list[ev.AnyEvent]:
    """The same run's other events."""
    return [
        ev.SubcallReplied(
            call="s1", text="t", finish_reason="stop", usage=usage(500, 0.001), seconds=1, attempts=1, served_by="b"
        ),
        ev.SubcallFailed(call="s2", code="failed", error="ModelRejected", message="no\x1b[5m", seconds=1),
        ev.SubcallReplied(
            call="s3", text="t", finish_reason="stop", usage=usage(500, 0.001), seconds=1, attempts=1, served_by="b"
        ),
        ev.CellOutput(cell=1, output={"output_type": "stream", "name": "stdout", "text": "[red]out\x1b[2J\n"}),
        ev.CellFinished(cell=1, status="error", seconds=1.25, ename="ValueError\x1b[31m", evalue="x"),
        ev.TurnStarted(turn=2),
        ev.AnswerGiven(answer="42", source="FINAL"),
        ev.RunFinished(status="answered", answer="42", seconds=5, turns=2, usage={}),
    ]


def shown(*, terminal: bool, verbose: bool = False) -> str:
    """What the display writes for the whole run."""
    file = io.StringIO()
    console = ProgressConsole(file=file, force_terminal=terminal, width=100, color_system=None)
    with Progress(console, verbose=verbose, clock=Clock()) as progress:
        for event in opening() + closing():
            progress.emit(event)
    return file.getvalue()


def test_the_budget_is_shown_where_there_is_one() -> None:
    """The live line has the greatest share of a limit that is used; without limits of tokens or cost it has none."""
    view = RunView(Clock())
    for event in opening():
        view.take(event)
    assert "budget" not in status_line(view)
    limited = RunView(Clock())
    first, *others = opening()
    assert isinstance(first, ev.RunStarted)
    limits: dict[str, JSON] = {"max_turns": 30, "max_total_tokens": 2_200, "max_cost": 1.0, "max_subcalls": 4}
    for event in [msgspec.structs.replace(first, settings=limits), *others]:
        limited.take(event)
    assert "budget 50%" in status_line(limited)


def test_elsewhere_than_on_a_terminal_there_are_plain_lines() -> None:
    """Each step and each finished turn is one line; nothing in it is a control character."""
    assert shown(terminal=False).splitlines() == [
        "run r1: openai:a, sub-calls to openai:b",
        "context: /tmp/book.txt, 40.0MB",
        "container cccccccccccc: no network, user 40001, its limits were read back",
        "turn 1 · cell 1 raised ValueError in 1.2 s · 3 sub-calls (1 failed)"
        " · tokens 2.0k in, 200 out · $0.0120 · 0:00",
        "turn 2 · no code · 0:00",
    ]


def test_verbose_shows_code_and_outputs_as_they_are_but_tame() -> None:
    """Markup is not interpreted, and no escape sequence of the guest gets through."""
    text = shown(terminal=False, verbose=True)
    assert "cell 1\n  print('[bold]hi[/bold]')\n" in text
    assert "output of cell 1\n  [red]out\n" in text
    assert "a sub-call of 1.0 s failed (failed)\n  no\n" in text
    assert "\x1b" not in text


def test_a_terminal_gets_a_line_that_is_kept_up_to_date() -> None:
    """The live line is there while the run goes on, and the guest's sequences are not."""
    text = shown(terminal=True, verbose=True)
    assert "\x1b[?25l" in text, "the display hides the cursor while it is live"
    assert text.rindex("\x1b[?25h") > text.rindex("turn 2"), "and shows it at its end"
    assert "owned" not in text
    assert "\x1b[2J" not in text


def test_the_live_line_says_what_goes_on() -> None:
    """Turn, running cell and its time, sub-calls by state, tokens, cost and time are on one line."""
    clock = Clock()
    view = RunView(clock)
    for event in opening():
        view.take(event)
    clock.now += 65
    for event in closing()[:2]:
        view.take(event)
    assert status_line(view) == (
        "turn 1/30 · running cell 1 65.0 s · sub-calls 1 in flight, 1 done, 1 failed"
        " · tokens 1.5k in, 150 out · $0.0110 · 1:05"
    )


def test_an_unknown_price_makes_the_cost_unknown() -> None:
    """A sum with an unknown part is not shown as a number."""
    view = RunView(Clock())
    view.take(opening()[6])
    view.take(
        ev.SubcallReplied(
            call="s", text="", finish_reason="stop", usage=usage(10, None), seconds=1, attempts=1, served_by="b"
        )
    )
    assert "cost unknown" in status_line(view)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_console_that_is_gone_does_not_end_the_run(terminal: bool) -> None:
    """When nobody reads standard error any more, events are still taken."""

    class Gone(io.StringIO):
        def write(self, text: str, /) -> int:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    with Progress(ProgressConsole(file=Gone(), force_terminal=terminal, width=80), clock=Clock()) as progress:
        for event in opening() + closing():
            progress.emit(event)


@pytest.mark.parametrize("moment", ["before", "during"])
def test_a_terminal_that_is_closed_ends_the_display_alone(moment: str) -> None:
    """The first write to a terminal that was closed, and every later one, goes nowhere and raises nothing."""
    outer, inner = os.openpty()
    file = os.fdopen(inner, "w")
    if moment == "before":
        os.close(outer)
    with Progress(ProgressConsole(file=file, width=80), clock=Clock()) as progress:
        assert moment == "before" or os.read(outer, 1)
        if moment == "during":
            os.close(outer)
        for event in opening() + closing():
            progress.emit(event)
    with suppress(OSError):
        file.close()


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ({"output_type": "stream", "name": "stdout", "text": ["a", "b"]}, "ab"),
        ({"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["l1", "l2"]}, "l1\nl2"),
        ({"output_type": "error", "ename": "E", "evalue": "v", "traceback": []}, "E: v"),
        ({"output_type": "execute_result", "data": {"text/plain": "42", "text/html": "<b>"}}, "42"),
        ({"output_type": "display_data", "data": {"image/png": "…"}}, "[image/png]"),
        ({"output_type": "new_kind"}, ""),
    ],
)
def test_every_kind_of_output_has_a_text(output: dict[str, JSON], text: str) -> None:
    """Streams, errors, results and displays are shown by their plain form."""
    assert output_text(output) == text


def test_numbers_are_short() -> None:
    """Counts, sizes, costs and times are written as people read them."""
    assert [count(950), count(12_345), count(4_000_000)] == ["950", "12.3k", "4.0M"]
    assert [size(999), size(1_500), size(40_000_000)] == ["999 bytes", "1.5KB", "40.0MB"]
    assert [cost(0.0), cost(0.0123), cost(12.3), cost(None)] == ["$0.00", "$0.0123", "$12.30", "cost unknown"]
    assert [clock_time(5), clock_time(65), clock_time(3661)] == ["0:05", "1:05", "1:01:01"]


def test_every_event_can_be_shown() -> None:
    """No event of the schema is unknown to the display in a way that raises."""
    file = io.StringIO()
    progress = Progress(ProgressConsole(file=file), verbose=True)
    for event in (
        ev.Notice(message="links were not followed"),
        ev.KernelLost(generation=2, reason="out of memory", lost=["x", "y"]),
        ev.CellInterrupted(cell=3, step="cancel", reason="timed_out", seconds=300.9),
        ev.KernelRebuilt(generation=3, cells=[1, 2], names=["x"], seconds=1, failed="cell 3 took\x1b[2J too long"),
        ev.ModelRetried(call="m", attempt=1, error="RateLimited", message="slow down", wait=2.0),
        ev.ModelFailed(call="m", error="e", message="m", seconds=1),
        ev.ProfileChosen(name="claude", source="built in", digest="d", tools=True),
        ev.HistoryCompacted(tokens=150_000, window=200_000, removed=40, kept=4, summary="s", by_model=True),
        ev.SubcallRefused(call="s", cell=None, reason="no cell runs", asked=None, prompt="p", prompt_length=1),
        ev.RunFinished(status="failed", answer=None, seconds=1, turns=0, usage={}),
    ):
        progress.emit(event)
    text = file.getvalue()
    assert "note: links were not followed" in text
    assert "the kernel is lost: out of memory; lost x, y" in text
    assert "cell 3 is to end after 300.9 s (its time limit): cancel" in text
    assert "2 cells were run again, 1 variables are back; cell 3 took too long" in text
    assert "attempt 1 failed, the next one follows in 2.0 s: RateLimited: slow down" in text
    assert "a sub-call was refused" in text
    assert "the conversation got long, about 150.0k tokens: 40 messages became the model's summary" in text


def test_sessions_below_are_shown_by_their_ends() -> None:
    """A session that a sub-call started shows as one line at its end, and in the line that is kept up to date."""
    file = io.StringIO()
    progress = Progress(ProgressConsole(file=file))
    view = RunView()
    started = ev.RunStarted(
        run="r", question="q", model="m", sub_model="s", package_version="1", python_version="3", depth=1
    )
    usage = Usage(calls=1, input_tokens=2000)
    replied = ev.ModelReplied(
        call="m1", text="t", finish_reason="stop", usage=usage, seconds=1, attempts=1, served_by="m"
    )
    for event in (started, ev.TurnStarted(turn=1), replied):
        progress.emit(event, "s1/s2")
        view.take_below(event, "s1/s2")
    assert file.getvalue() == ""
    assert "1 session below" in status_line(view)
    assert view.usage == usage
    finished = ev.RunFinished(
        status="failed", answer=None, seconds=61, turns=2, usage={}, error="E", message="no\x1b[2J"
    )
    progress.emit(finished, "s1/s2")
    view.take_below(finished, "s1/s2")
    assert file.getvalue() == "    s1/s2: failed · 2 turns · 1:01: no\n"
    assert "below" not in status_line(view)


def test_a_reply_is_shown_as_it_comes_and_goes_with_its_attempt() -> None:
    """The line below the status has its end, cleaned; what failed, or is complete, is shown no more."""
    file = io.StringIO()
    progress = Progress(ProgressConsole(file=file, force_terminal=True, width=40))
    assert progress.listener is not None
    retried = ev.ModelRetried(call="m", attempt=1, error="RateLimited", message="slow down", wait=2.0)
    progress.emit(ev.ModelRequested(call="m1", model="m", history=0, messages=[]))
    for piece in ("I look", " at\x1b[2J the", " text first, ", "and then count"):
        progress.listener(TextDelta("text", piece))
    first, second = progress._status().plain.split("\n")
    assert "waiting for the model" in first
    assert second == "  " + "I look at the text first, and then count"[-36:]
    progress.emit(retried)
    assert "\n" not in progress._status().plain


@pytest.mark.parametrize("options", [{}, {"force_terminal": True, "quiet": True}], ids=["pipe", "quiet"])
def test_nobody_listens_where_nothing_is_shown(options: dict[str, bool]) -> None:
    """Then replies are not streamed."""
    assert Progress(ProgressConsole(file=io.StringIO(), **options)).listener is None  # type: ignore[arg-type]
