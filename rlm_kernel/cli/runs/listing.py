"""`rlm-kernel runs list`: the recorded runs, the latest first."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, get_args

import click
import msgspec

from rlm_kernel.cli.figures import cost, size, took
from rlm_kernel.cli.runs.columns import Column, write_columns
from rlm_kernel.cli.text import one_line
from rlm_kernel.cli.when import When, age, utc
from rlm_kernel.config import resolve
from rlm_kernel.events import RunStatus

if TYPE_CHECKING:
    from pathlib import Path

    from rlm_kernel.recording.summary import RunSummary

STATES = (*get_args(RunStatus), "running", "broken-off", "damaged")
COLUMNS = (
    Column("run"),
    Column("age", right=True),
    Column("status"),
    Column("turns", rank=1, right=True),
    Column("sub-calls", rank=2, right=True),
    Column("cost", right=True),
    Column("time", right=True),
    Column("size", rank=4, right=True),
    Column("model", rank=3),
    Column("from"),
    Column("question", flexible=True),
)
LONGEST_MODEL = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which runs are to be listed; nothing is any. `descends_from` is a run's id."""

    states: frozenset[str] = frozenset()
    model: str = ""
    question: str = ""
    since: float | None = None
    until: float | None = None
    descends_from: str | None = None

    def of(self, found: Iterable[RunSummary]) -> Iterator[RunSummary]:
        """Return those of `found`, the latest first, that are wanted."""
        found = self._descended(found) if self.descends_from else found
        return filter(self._fits, found)

    def _fits(self, summary: RunSummary) -> bool:
        return (
            (not self.states or summary.status in self.states)
            and self.model.lower() in f"{summary.model} {summary.sub_model}".lower()
            and self.question.lower() in summary.question.lower()
            and (self.since is None or (summary.at is not None and summary.at >= self.since))
            and (self.until is None or (summary.at is not None and summary.at < self.until))
        )

    def _descended(self, found: Iterable[RunSummary]) -> list[RunSummary]:
        family = {self.descends_from}
        kept = []
        for summary in sorted(found, key=lambda each: each.at or 0.0):
            if summary.origin is not None and summary.origin.run in family:
                family.add(summary.run)
                kept.append(summary)
        return kept[::-1]


@click.command("list")
@click.option("--status", "states", type=click.Choice(STATES), multiple=True, help="Only those; again for more.")
@click.option("--model", default="", metavar="TEXT", help="Only runs with such a model.")
@click.option("--question", default="", metavar="TEXT", help="Only runs whose first question has this in it.")
@click.option("--since", type=When(), metavar="WHEN", help="Only runs from then on: 2d (ago), or a date in UTC.")
@click.option("--until", type=When(), metavar="WHEN", help="Only runs from before then.")
@click.option("--from", "descends_from", metavar="RUN", help="Only runs that replay, resume or fork this one.")
@click.option("-n", "most", type=click.IntRange(min=1), metavar="N", help="No more than N.")
@click.option("--json", "as_json", is_flag=True, help="Write a JSON object on a line for each, errors too.")
@click.option("--state-dir", metavar="FOLDER", help="Where recordings and contexts are kept.")
def list_runs(
    *,
    states: tuple[str, ...],
    descends_from: str | None,
    most: int | None,
    as_json: bool,
    state_dir: str | None,
    **filters: Any,
) -> None:
    """List the recorded runs, the latest first.

    Only the beginning and the end of each recording are read. What they do not tell, such as what a run had used that
    was broken off, is left empty.
    """
    from rlm_kernel.recording.summary import summaries  # noqa: PLC0415 - as above

    folder = resolve({"state_dir": state_dir}).state_dir
    parent = None if descends_from is None else _id(folder, descends_from)
    wanted = Wanted(states=frozenset(states), descends_from=parent, **filters)
    found = islice(wanted.of(summaries(folder)), most)
    if as_json:
        for summary in found:
            click.echo(json.dumps(listed(summary)))
        return
    now = time.time()
    rows = [_row(summary, now) for summary in found]
    write_columns(COLUMNS, rows)
    if not rows and sys.stderr.isatty():
        click.echo(f"there is no such run in {folder}", err=True)


def _id(state_dir: Path, named: str) -> str:
    """Return the id of the run that is named, which may be gone if it is a whole id."""
    from rlm_kernel.recording.find import find_run  # noqa: PLC0415 - as above
    from rlm_kernel.recording.folder import is_run_id  # noqa: PLC0415

    return named if is_run_id(named) else find_run(state_dir, named).parent.name


def listed(summary: RunSummary) -> dict[str, Any]:
    """Return a run as JSON; what is not known is null."""
    used = summary.used
    return {
        "run": summary.run,
        "folder": str(summary.folder),
        "status": summary.status,
        "at": None if summary.at is None else utc(summary.at),
        "seconds": None if summary.seconds is None else round(summary.seconds, 3),
        "question": summary.question,
        "model": summary.model,
        "sub_model": summary.sub_model,
        "turns": summary.turns,
        "subcalls": summary.subcalls,
        "calls": None if used is None else used.calls,
        "input_tokens": None if used is None else used.input_tokens,
        "output_tokens": None if used is None else used.output_tokens,
        "cost_usd": None if used is None else used.cost_usd,
        "size": summary.size,
        "origin": None if summary.origin is None else msgspec.to_builtins(summary.origin),
        "problem": summary.problem,
    }


def _row(summary: RunSummary, now: float) -> list[str]:
    used = summary.used
    return [
        summary.run,
        "" if summary.at is None else age(now - summary.at),
        summary.status,
        "" if summary.turns is None else str(summary.turns),
        "" if summary.subcalls is None else str(summary.subcalls),
        "" if used is None else "?" if used.cost_usd is None else cost(used.cost_usd),
        "" if summary.seconds is None else took(summary.seconds),
        size(summary.size),
        one_line(summary.model, LONGEST_MODEL),
        origin_text(summary),
        one_line(summary.problem or "") if summary.status == "damaged" else one_line(summary.question),
    ]


def origin_text(summary: RunSummary) -> str:
    """Return what a run is from, in short: `fork of 1f0c9a3e`."""
    origin = summary.origin
    return "" if origin is None else f"{origin.how} of {one_line(origin.run, 60)[-8:]}"
