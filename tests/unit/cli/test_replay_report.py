"""What a replay came to, as it is written."""

from __future__ import annotations

import json

import click

from rlm_kernel.assembly.rerun.replay import ReplayReport
from rlm_kernel.cli.replay_report import report_json, report_lines, summary
from rlm_kernel.recording.compare.runs import AnswerCompared, CellCompared, Comparison

HOSTILE = "\x1b]0;title\x07\x1b[2J\u202egone"


def report(*cells: CellCompared, answers: tuple[AnswerCompared, ...] = (), places: int = 0) -> ReplayReport:
    """A report of these cells."""
    compared = Comparison(cells=[*cells], answers=[*answers], redacted=[f"place {n} {HOSTILE}" for n in range(places)])
    return ReplayReport(
        run=HOSTILE, replay="r", recording=None, comparison=compared, changed=[HOSTILE], notes=[HOSTILE]
    )


def cell(outcome: str, node: str = "", **fields: object) -> CellCompared:
    """A cell that came to `outcome`."""
    return CellCompared(**{"node": node, "cell": 1, "turn": 1, "outcome": outcome, **fields})  # type: ignore[arg-type]


def shown(given: ReplayReport, *, verbose: bool = False) -> str:
    """All lines, without colours."""
    return click.unstyle("\n".join([*report_lines(given, verbose=verbose), summary(given)]))


def test_a_line_for_each_cell() -> None:
    """It says what the cell came to and why, with the diff where it is different, or varies and all is wanted."""
    given = report(
        cell("identical"),
        cell("normalised", rules=["times", "addresses"]),
        cell("varies", "s1", reads=["uuid4"], where=["stdout"], diff="--- a"),
        cell("different", where=["stdout", "error"], diff="--- b\n-1\n+2"),
        cell("missing"),
        answers=(AnswerCompared(node="s1/s2", ask=1, outcome="identical"),),
    )
    lines = shown(given).split("\n")
    assert lines[3:] == [
        "cell 1       identical",
        "cell 1       normalised · but for times, addresses",
        "s1 cell 1    varies · in stdout · reads uuid4",
        "cell 1       different · in stdout, error",
        "    --- b",
        "    -1",
        "    +2",
        "cell 1       did not run again",
        "s1/s2 answer 1 identical",
        "5 cells: 1 identical, 1 normalised, 1 varies, 1 different, 1 missing · 1 answer: 1 identical · 0.0 s",
    ]
    assert "    --- a" in shown(given, verbose=True)


def test_nothing_of_a_recording_reaches_the_terminal_as_it_is() -> None:
    """Names, reasons, diffs and places are cleaned, on one line where there is to be one."""
    text = shown(
        report(cell("different", HOSTILE, rules=[HOSTILE], reads=[HOSTILE], diff=HOSTILE), places=30), verbose=True
    )
    assert not set(text) & set("\x1b\x07\u202e")
    assert "… 10 more places" in shown(report(places=30))


def test_long_reports_are_short() -> None:
    """After a thousand cells only those are told that are not the same; verbose tells all."""
    given = report(*[cell("identical")] * 1500, cell("different"))
    assert len(shown(given).split("\n")) == 1006
    assert len(shown(given, verbose=True).split("\n")) == 1505


def test_json_has_everything() -> None:
    """All fields, and the words that sum them up."""
    given = report(cell("different", diff=HOSTILE))
    read = json.loads(json.dumps(report_json(given)))
    assert (read["differs"], read["counts"], read["run"]) == (True, {"different": 1}, HOSTILE)
    assert read["comparison"]["cells"][0]["diff"] == HOSTILE
