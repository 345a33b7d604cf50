"""Run folders that somebody made to harm who works with them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rlm_kernel.events import (
    AnswerGiven,
    AnyEvent,
    CellFinished,
    CellOutput,
    CellStarted,
    ContextStored,
    ModelFailed,
    ModelRequested,
    Notice,
    QuestionAsked,
    SubcallFailed,
    SubcallRequested,
    TurnStarted,
)
from rlm_kernel.recording import EVENTS_FILE
from rlm_kernel.recording.summary import summaries
from rlm_kernel.types import Usage
from tests.support.recorded import finished, of, run_id, started, write_run
from tests.unit.cli.conftest import RunCommand, command

__all__ = ["command"]

EVIL = "\x1b]0;owned\x07\x1b[31m\u202eq\r\nanswered\x9b2J"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state folder of `command`."""
    return tmp_path / "state" / "rlm_kernel"


def test_what_is_no_file_is_neither_waited_for_nor_followed(state: Path, tmp_path: Path) -> None:
    """A pipe, a device, a link and a folder as recordings, links as run folders, and names that are no ids."""
    elsewhere = write_run(tmp_path / "other", run_id(1), [started(run_id(1)), finished()])
    for number in range(2, 6):
        write_run(state, run_id(number), []).joinpath(EVENTS_FILE).unlink()
    runs = state / "runs"
    os.mkfifo(runs / run_id(2) / EVENTS_FILE)
    (runs / run_id(3) / EVENTS_FILE).symlink_to(elsewhere / EVENTS_FILE)
    (runs / run_id(4) / EVENTS_FILE).mkdir()
    (runs / run_id(5) / EVENTS_FILE).symlink_to("/dev/zero")
    (runs / run_id(6)).symlink_to(elsewhere)
    (runs / "..evil").mkdir()
    (runs / run_id(7)).write_text("a file")
    found = {summary.run: summary.status for summary in summaries(state)}
    assert found == {run_id(number): "damaged" for number in range(2, 6)}


def test_no_text_of_a_recording_reaches_the_terminal_as_it_is(state: Path, command: RunCommand) -> None:
    """Questions, models, origins and errors; each run keeps its one line."""
    write_run(state, run_id(1), [started(run_id(1), EVIL, EVIL, of(EVIL)), Notice(message=EVIL)])
    write_run(state, run_id(2), []).joinpath(EVENTS_FILE).write_text(json.dumps({"v": 2, "\x1b[2J": 1}) + "\n")
    ended = command("runs")
    assert ended.status == 0
    assert len(ended.out.splitlines()) == 3
    assert not {"\x1b", "\x07", "\r", "\u202e", "\x9b"} & set(ended.out)


def test_deep_and_huge_json_is_damage(state: Path) -> None:
    """Neither a crash nor a wait: nesting without end, numbers without end, and times that no calendar has."""
    contents = {
        1: b'{"v":2,"seq":0,"at":1,"event":{"type":"RunStarted","x":' + b"[" * 500_000 + b"\n",
        2: b'{"v":' + b"9" * 100_000 + b',"seq":0,"at":1,"event":{"type":"RunStarted"}}\n',
        3: b"\xff\xfe" * 1000 + b"\n",
    }
    for number, content in contents.items():
        write_run(state, run_id(number), []).joinpath(EVENTS_FILE).write_bytes(content)
    assert [summary.status for summary in summaries(state)] == ["damaged"] * 3


def test_numbers_that_cannot_be_are_damage(state: Path, command: RunCommand) -> None:
    """Times that no calendar has and sums that nobody can add; the runs are listed, as a table and as JSON."""
    start = b'{"v":2,"seq":0,"at":%s,"event":{"type":"RunStarted","run":"x","question":"?"}}\n'
    end = b'{"v":2,"seq":1,"at":1,"event":{"type":"RunFinished","status":"answered","usage":{"m":{"calls":1%s}}}}\n'
    turns = b'{"v":2,"seq":1,"at":1,"event":{"type":"RunFinished","status":"answered","turns":1%s}}\n'
    contents = [start % b"1e300", start % b"1" + turns % (b"0" * 400), start % b"-1", start % b"1" + end % (b"0" * 400)]
    for number, content in enumerate(contents):
        write_run(state, run_id(number), []).joinpath(EVENTS_FILE).write_bytes(content)
    rows = [json.loads(line) for line in command("runs", "--json").out.splitlines()]
    assert [row["status"] for row in rows] == ["damaged"] * 4
    assert max(map(len, command("runs").out.splitlines())) <= 200


def test_showing_a_run_waits_for_no_pipe(state: Path, command: RunCommand) -> None:
    """By its id or by its path."""
    folder = write_run(state, run_id(1), [])
    (folder / EVENTS_FILE).unlink()
    os.mkfifo(folder / EVENTS_FILE)
    for named in (run_id(1), str(folder), str(folder / EVENTS_FILE)):
        assert command("runs", "show", named).status == 17


def test_nothing_of_a_run_that_is_shown_reaches_the_terminal_as_it_is(state: Path, command: RunCommand) -> None:
    """Not from any text that a recording holds; in the tree each branch keeps its line."""
    usage = Usage(calls=1, input_tokens=5, cost_usd=0.1)
    write_run(
        state,
        run_id(1),
        [
            started(EVIL, EVIL, EVIL, of(EVIL)),
            ContextStored(digest=EVIL, kind="str", size=1, source=EVIL, name=EVIL),
            QuestionAsked(ask=1, question=EVIL),
            TurnStarted(turn=1),
            ModelRequested(call=EVIL, model=EVIL, history=0, messages=[]),
            ModelFailed(call=EVIL, error=EVIL, message=EVIL, seconds=1, usage=usage),
            CellStarted(cell=1, turn=1, code=EVIL),
            CellOutput(cell=1, output={"output_type": "stream", "name": "stdout", "text": EVIL}),
            SubcallRequested(call=f"s{EVIL}", cell=1, model=EVIL, prompt=EVIL, kind="rlm"),
            SubcallRequested(call="s1", cell=1, model=EVIL, prompt=EVIL, kind="rlm"),
            (started(EVIL, EVIL), "s1"),
            SubcallFailed(call=f"s{EVIL}", code=EVIL, error=EVIL, message=EVIL, seconds=1),
            CellFinished(cell=1, status="error", seconds=1, ename=EVIL),
            AnswerGiven(answer=EVIL, source="FINAL", reason=EVIL),
            finished("failed", EVIL, EVIL),
        ],
    )
    other: list[AnyEvent] = [started(EVIL), QuestionAsked(ask=1, question=EVIL), TurnStarted(turn=1)]
    write_run(state, run_id(0), [*other, CellStarted(cell=1, turn=1, code=f"{EVIL}{EVIL}"), finished(answer=EVIL)])
    ended = command("runs", "compare", run_id(0), "last")
    assert ended.status == 54
    assert not {"\x1b", "\x07", "\r", "\u202e", "\x9b"} & set(ended.out)
    for options in ([], ["--full"], ["--cell", "1"], ["--turn", "1"]):
        ended = command("runs", "show", "last", *options)
        assert ended.status == 0, ended.err
        assert not {"\x1b", "\x07", "\r", "\u202e", "\x9b"} & set(ended.out)


def test_a_tree_without_end_is_cut(state: Path, command: RunCommand) -> None:
    """Sessions in sessions in sessions, as deep as a recording can have them."""
    events: list[AnyEvent | tuple[AnyEvent, str]] = []
    for depth in range(100):
        node = "/".join(["s1"] * depth)
        events += [
            (event, node)
            for event in (
                started(run_id(1)),
                QuestionAsked(ask=1, question="?"),
                TurnStarted(turn=1),
                CellStarted(cell=1, turn=1, code=""),
                SubcallRequested(call="s1", cell=1, model="m", prompt="", kind="rlm"),
            )
        ]
    write_run(state, run_id(1), events)
    for options in ([], ["--full"], ["--json"], ["--node", "/".join(["s1"] * 50)]):
        assert command("runs", "show", "last", *options).status == 0


def test_nothing_outside_of_a_run_goes_with_it(state: Path, tmp_path: Path, command: RunCommand) -> None:
    """Whatever links its folder holds, by name or by rule; nor does what stands in the store and is no context."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    for number in (1, 2):
        folder = write_run(state, run_id(number), [started(run_id(number)), finished()])
        (folder / "link").symlink_to(precious)
        (folder / "file").symlink_to(precious / "file")
        (folder / "sub").mkdir()
        (folder / "sub" / "up").symlink_to("..")
        for path in (folder / EVENTS_FILE, folder / "sub", folder):
            os.utime(path, (1, 1))
        for path in (folder / "link", folder / "file", folder / "sub" / "up"):
            os.utime(path, (1, 1), follow_symlinks=False)
    contexts = state / "contexts"
    contexts.mkdir()
    (contexts / ("a" * 64)).symlink_to(precious / "file")
    (contexts / ("b" * 64)).symlink_to(precious)
    (contexts / "known").symlink_to(precious)
    os.mkfifo(contexts / ("c" * 64))
    assert command("runs", "delete", run_id(1), "--yes").status == 0
    assert command("runs", "prune", "--keep-days", "1", "--yes").status == 0
    assert list((state / "runs").iterdir()) == []
    assert (precious / "file").read_text() == "mine"
    assert len(list(contexts.iterdir())) == 4
