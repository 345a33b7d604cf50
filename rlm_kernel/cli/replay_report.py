"""What a replay came to, in lines for people and as JSON; what models and guests wrote is cleaned first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
import msgspec

from rlm_kernel.cli.text import clean, one_line

if TYPE_CHECKING:
    from rlm_kernel.assembly.rerun.replay import ReplayReport
    from rlm_kernel.recording.compare.runs import AnswerCompared, CellCompared

_COLOURS = {"identical": "green", "normalised": "green", "varies": "yellow", "unfinished": "yellow"}
_WORDS = {
    "missing": "did not run again",
    "more": "was not recorded",
    "unfinished": "was recorded without its end",
}
_MOST_LINES = 1_000
"""Cells that are told one by one, unless all is wanted; those that differ always are."""
_MOST_PLACES = 20


def report_lines(report: ReplayReport, *, verbose: bool = False) -> Iterator[str]:
    """Yield what is told of each cell and answer, of what is not as it was, and of what was kept out."""
    yield click.style(f"replay of {one_line(report.run)}", bold=True)
    for text in report.changed:
        yield click.style(f"changed: {one_line(text, 1000)}", fg="yellow")
    for text in report.notes:
        yield click.style(f"note: {one_line(text, 1000)}", fg="yellow")
    compared = report.comparison
    for number, cell in enumerate(compared.cells):
        if verbose or number < _MOST_LINES or cell.outcome not in ("identical", "normalised"):
            yield from _told(f"{_of(cell.node)}cell {cell.cell}", cell, cell.reads, verbose=verbose)
    if not verbose and len(compared.cells) > _MOST_LINES:
        yield f"… cells after the {_MOST_LINES:,}th are told only where they differ; --verbose tells all"
    for answer in compared.answers:
        yield from _told(f"{_of(answer.node)}answer {answer.ask}", answer, [], verbose=verbose)
    places = compared.redacted if verbose else compared.redacted[:_MOST_PLACES]
    for place in places:
        yield f"kept out of the recording: {one_line(place)}"
    if len(places) < len(compared.redacted):
        yield f"… {len(compared.redacted) - len(places)} more places; --verbose tells all"


def summary(report: ReplayReport) -> str:
    """Return on one line how many cells and answers came to what."""
    compared = report.comparison
    answers = Counter(answer.outcome for answer in compared.answers)
    cells = ", ".join(f"{count} {outcome}" for outcome, count in compared.counts.items())
    parts = [f"{_plural(len(compared.cells), 'cell')}: {cells}" if cells else "no cells"]
    if answers:
        counted = ", ".join(f"{count} {outcome}" for outcome, count in answers.items())
        parts.append(f"{_plural(len(compared.answers), 'answer')}: {counted}")
    text = f"{' · '.join(parts)} · {report.seconds:.1f} s"
    if report.error is not None:
        text += f" · {one_line(report.error)}"
    return click.style(text, fg="red" if report.differs else "green")


def report_json(report: ReplayReport) -> dict[str, Any]:
    """Return all of a report."""
    return {
        **msgspec.to_builtins(report),
        "differs": report.differs,
        "counts": dict(report.comparison.counts),
    }


def _of(node: str) -> str:
    return f"{one_line(node)} " if node else ""


def _told(what: str, compared: CellCompared | AnswerCompared, reads: list[str], *, verbose: bool) -> Iterator[str]:
    outcome = compared.outcome
    parts = [_WORDS.get(outcome, outcome)]
    if compared.rules:
        parts.append(
            f"but for {', '.join(compared.rules)}" if not compared.where else f"and {', '.join(compared.rules)}"
        )
    if compared.where:
        parts.append(f"in {', '.join(compared.where)}")
    if reads and (verbose or outcome == "varies"):
        parts.append(f"reads {', '.join(reads)}")
    line = f"{what:12} {one_line(' · '.join(parts), 1000)}"
    yield click.style(line, fg=_COLOURS.get(outcome, "red"))
    if compared.diff and (verbose or outcome == "different"):
        for text in clean(compared.diff).split("\n"):
            colour = {"+": "green", "-": "red", "@": "cyan"}.get(text[:1])
            yield click.style(f"    {text}", fg=colour)


def _plural(number: int, word: str) -> str:
    return f"{number:,} {word}{'s' if number != 1 else ''}"
