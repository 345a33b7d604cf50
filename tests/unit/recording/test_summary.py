"""What a run came to, read from the ends of its recording."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from rlm_kernel.events import Notice, QuestionAsked
from rlm_kernel.recording import EVENTS_FILE
from rlm_kernel.recording.log import LINE_LIMIT
from rlm_kernel.recording.summary import RunSummary, summaries, summarise
from tests.support.recorded import USED, finished, of, run_id, started, write_run

KEPT = Path(__file__).parents[2] / "recordings"
RUN = run_id(1)


def _summary(folder: Path) -> RunSummary:
    summary = summarise(folder)
    assert summary is not None
    return summary


def test_a_finished_run_says_all(tmp_path: Path) -> None:
    """Its first record tells what it was, its last one what it came to."""
    folder = write_run(tmp_path, RUN, [started(RUN, origin=of(run_id(0))), finished()])
    summary = _summary(folder)
    assert (summary.run, summary.status, summary.turns, summary.seconds) == (RUN, "answered", 2, 1.5)
    assert (summary.question, summary.model, summary.sub_model) == ("How many?", "fake:root", "fake:sub")
    assert summary.used == USED["fake:root"]
    assert summary.origin == of(run_id(0))
    assert summary.size == (folder / EVENTS_FILE).stat().st_size


def test_recordings_of_the_first_version_are_read() -> None:
    """Those that are kept for it."""
    kept = [summarise(KEPT / "v1" / name) for name in ("session", "children")]
    assert [(each.status, each.turns) for each in kept if each is not None] == [("answered", 5), ("answered", 1)]


def test_a_session_has_the_question_that_it_was_asked_first(tmp_path: Path) -> None:
    """A run of many questions has none in its first record."""
    asked = [QuestionAsked(ask=1, question="first"), QuestionAsked(ask=2, question="second")]
    assert _summary(write_run(tmp_path, RUN, [started(RUN, ""), *asked])).question == "first"


def test_a_run_without_its_end_was_broken_off_or_goes_on(tmp_path: Path) -> None:
    """It goes on as long as somebody holds the lock on its file; what it used is not known."""
    folder = write_run(tmp_path, RUN, [started(RUN), (finished(), "s1")])
    summary = _summary(folder)
    assert (summary.status, summary.usage, summary.turns) == ("broken-off", None, None)
    writer = os.open(folder / EVENTS_FILE, os.O_WRONLY)
    fcntl.flock(writer, fcntl.LOCK_EX)
    assert _summary(folder).status == "running"
    os.close(writer)


def test_a_torn_last_line_is_passed_over(tmp_path: Path) -> None:
    """The last whole record counts, whether there is one before the torn one or not."""
    folder = write_run(tmp_path, RUN, [started(RUN), finished()])
    events = folder / EVENTS_FILE
    with events.open("ab") as file:
        file.write(b'{"v":2,"seq":2' + b" " * 200_000)
    assert _summary(folder).status == "answered"
    events.write_bytes(events.read_bytes()[:40])
    assert _summary(folder).status == "damaged"


def test_the_longest_lines_are_read_without_the_rest(tmp_path: Path) -> None:
    """A question and an answer of 3 MB, with lines of as much between them that are no records at all."""
    text = "x" * 3_000_000
    folder = write_run(tmp_path, RUN, [started(RUN, text), Notice(message="?"), finished(answer=text)])
    events = folder / EVENTS_FILE
    lines = events.read_bytes().splitlines(keepends=True)
    events.write_bytes(lines[0] + b"{" * 3_000_000 + b"\n" + lines[2])
    summary = _summary(folder)
    assert (summary.status, summary.question) == ("answered", "x" * 2_000)


def test_damage_is_told(tmp_path: Path) -> None:
    """What is no record at either end, a later version, and a last line that is too long; runs beside it are listed."""
    damages = {
        1: (b"", "no whole record"),
        2: (b"{}\n", "first record is not one"),
        3: (b'{"v":99,"seq":0,"at":1,"event":{"type":"RunStarted"}}\n', "a later version"),
        4: (b'{"v":2,"seq":0,"at":1,"event":{"type":"Notice"}}\n', "does not begin as a run"),
    }
    for number, (content, _) in damages.items():
        (write_run(tmp_path, run_id(number), []) / EVENTS_FILE).write_bytes(content)
    long = write_run(tmp_path, run_id(5), [started(run_id(5))]) / EVENTS_FILE
    os.truncate(long, long.stat().st_size + LINE_LIMIT + 2)
    write_run(tmp_path, run_id(6), [started(run_id(6)), finished()])
    found = {summary.run: summary for summary in summaries(tmp_path)}
    assert list(found) == [run_id(number) for number in range(6, 0, -1)]
    assert found[run_id(6)].status == "answered"
    for number, (_, words) in {**damages, 5: (b"", "longer than one may be")}.items():
        summary = found[run_id(number)]
        assert summary.status == "damaged", number
        assert words in (summary.problem or "")
