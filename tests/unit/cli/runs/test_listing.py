"""`rlm-kernel runs`, which lists recorded runs."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from rlm_kernel.cli.figures import took
from rlm_kernel.cli.runs.columns import Column, write_columns
from rlm_kernel.cli.when import When, age
from tests.support.recorded import finished, of, run_id, started, write_run
from tests.unit.cli.conftest import RunCommand


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Five runs in the state folder of `command`: the third is a fork of the first, the fourth one of the third."""
    folder = tmp_path / "state" / "rlm_kernel"
    write_run(folder, run_id(1), [started(run_id(1), "How many whales?"), finished()])
    write_run(folder, run_id(2), [started(run_id(2), model="fake:other"), finished("failed", None, "NoAnswer")])
    write_run(folder, run_id(3), [started(run_id(3), origin=of(run_id(1))), finished("partial")])
    write_run(folder, run_id(4), [started(run_id(4), origin=of(run_id(3)))])
    write_run(folder, run_id(5), []).joinpath("events.jsonl").write_text("?\n")
    return folder


def _listed(command: RunCommand, *options: str) -> list[int]:
    ended = command("runs", "list", "--json", *options)
    assert ended.status == 0, ended.err
    return [int(json.loads(line)["run"][-8:], 16) for line in ended.out.splitlines()]


@pytest.mark.usefixtures("state")
def test_the_latest_run_comes_first_with_what_is_known(command: RunCommand) -> None:
    """`runs` alone lists: one line for each, what is not known left out, and why one can't be read."""
    lines = command("runs").out.splitlines()
    assert [line.split()[0] for line in lines] == ["run", *(run_id(number) for number in (5, 4, 3, 2, 1))]
    assert "damaged" in lines[1]
    assert "first record is not one" in lines[1]
    assert "broken-off" in lines[2]
    assert "$" not in lines[2]
    assert "fork of 00000003" in lines[2]
    assert lines[5].split()[2:5] == ["answered", "2", "7"]
    assert lines[5].endswith("How many whales?")


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize(
    ("options", "runs"),
    [
        (["--status", "answered", "--status", "partial"], [3, 1]),
        (["--status", "broken-off"], [4]),
        (["--model", "OTHER"], [2]),
        (["--question", "whale"], [1]),
        (["--from", run_id(1)], [4, 3]),
        (["--from", "00000003"], [4]),
        (["-n", "2"], [5, 4]),
        (["--since", "2000-01-01", "--until", "2001-01-01"], []),
        (["--since", "1d", "--status", "failed"], [2]),
    ],
)
def test_filters_choose(command: RunCommand, options: list[str], runs: list[int]) -> None:
    """By state, model, question, time, family and number, all of which have to fit."""
    assert _listed(command, *options) == runs


def test_a_run_that_is_not_there_is_an_error(command: RunCommand) -> None:
    """Of the recording's kind; and no state folder at all is no runs."""
    assert command("runs", "--from", "nothing").status == 17
    assert command("runs").out == ""


@pytest.mark.parametrize(
    ("text", "at"), [("2d", 1e9 - 172_800), ("2001-09-09", 999_993_600.0), ("2001-09-09T01:46:40+00:00", 1e9)]
)
def test_times_are_dates_or_ago(text: str, at: float) -> None:
    """In UTC where no zone is given."""
    assert When(1e9).convert(text, None, None) == at


def test_any_other_time_is_an_error() -> None:
    """In words that show what is meant."""
    with pytest.raises(click.BadParameter, match="such as 2d"):
        When().convert("yesterday", None, None)


def test_durations_are_short() -> None:
    """In the unit that fits."""
    assert [age(seconds) for seconds in (0.5, 59, 3700, 2e5, 1e8)] == ["now", "59s", "1h", "2d", "3y"]
    assert [took(seconds) for seconds in (0.123, 9.9, 59.4, 59.5, 3700)] == ["0.12s", "9.9s", "59s", "0:59", "1:01:40"]


def test_a_narrow_terminal_loses_what_matters_least(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns of a rank go, the highest first; wide characters count as two; a column without text is not there."""
    columns = (
        Column("id"),
        Column("n", rank=1, right=True),
        Column("model", rank=2),
        Column("none"),
        Column("what", flexible=True, least=6),
    )
    rows = [("a", "10", "mm", "", "日本語日本語"), ("b", "5", "m", "", "short")]
    write_columns(columns, rows, width=18)
    assert capsys.readouterr().out.splitlines() == ["id   n  what", "a   10  日本語日 …", "b    5  short"]
    write_columns(columns, rows, width=8)
    assert capsys.readouterr().out.splitlines() == ["id  what", "a   日本 …", "b   short"]
