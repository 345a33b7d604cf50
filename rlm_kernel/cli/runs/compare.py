"""`rlm-kernel runs compare`: two runs side by side, and where their cells part ways."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
import msgspec

from rlm_kernel.cli import exits
from rlm_kernel.cli.figures import cost, count, took
from rlm_kernel.cli.runs.columns import Column, write_columns
from rlm_kernel.cli.text import clean, one_line
from rlm_kernel.config import resolve

if TYPE_CHECKING:
    from rlm_kernel.cli.runs.facts import Facts
    from rlm_kernel.recording import Recording
    from rlm_kernel.recording.compare.runs import CellCompared, Comparison
    from rlm_kernel.recording.tree import Branch

LONGEST = 60
MOST_LINES = 40
"""Lines of one difference that are shown."""
MOST_ANSWERS = 3
COLUMNS = (Column(""), Column("A"), Column("B"), Column("B to A", right=True))
_SAME = ("identical", "normalised")
_PLACES = ("state_dir", "profiles_dir")


@dataclass(frozen=True, slots=True)
class Side:
    """One of the runs: what it was and came to, its settings, and its tree."""

    facts: Facts
    settings: dict[str, Any]
    cells: int
    tree: Branch


@click.command()
@click.argument("one", metavar="A")
@click.argument("other", metavar="B")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object to standard output, errors too.")
@click.option("--state-dir", metavar="FOLDER", help="Where recordings and contexts are kept.")
def compare(*, one: str, other: str, as_json: bool, state_dir: str | None) -> int:
    """Compare two recorded runs.

    Shown are settings, models, questions and contexts that differ, what each took, and where their answers and cells
    first part ways. The exit status is 0 if all cells and answers are the same, but for what may differ each time.
    """
    from rlm_kernel.recording import Recording, opened_run  # noqa: PLC0415 - as above
    from rlm_kernel.recording.compare.runs import compare_runs  # noqa: PLC0415

    folder = resolve({"state_dir": state_dir}).state_dir
    with (
        opened_run(folder, one) as this,
        opened_run(folder, other) as that,
        Recording(this) as first,
        Recording(that) as second,
    ):
        a, b = _side(first), _side(second)
        compared = compare_runs(first, second)
    rows = list(_rows(a, b))
    parted = next((cell for cell in compared.cells if cell.outcome not in _SAME), None)
    if as_json:
        click.echo(json.dumps(_as_json(a, b, compared, parted)))
    else:
        write_columns(COLUMNS, rows)
        for line in _parting(compared, parted):
            click.echo(line)
    return exits.DIFFERENT if _differ(a, b, compared) else 0


def _differ(a: Side, b: Side, compared: Comparison) -> bool:
    """Tell whether the runs are not the same; one that was broken off is the same as itself alone."""
    if a.facts["head"] == b.facts["head"]:
        return False
    unfinished = any(cell.outcome == "unfinished" for cell in compared.cells)
    return compared.differs or unfinished or a.facts["status"] != b.facts["status"]


def _side(recording: Recording) -> Side:
    from rlm_kernel.cli.runs.facts import facts  # noqa: PLC0415 - as above
    from rlm_kernel.recording.tree import call_tree  # noqa: PLC0415

    tree = call_tree(recording)
    settings = {name: value for name, value in recording.started.settings.items() if name not in _PLACES}
    cells = sum(len(node.cells) for node in recording.nodes.values())
    return Side(facts(recording, tree.sums), settings, cells, tree)


def _rows(a: Side, b: Side) -> Iterator[list[str]]:
    """Yield what differs, then what each run took."""
    yield ["run", *(one_line(side.facts["run"], LONGEST) for side in (a, b)), ""]
    for name, texts in _told(a, b):
        yield [name, *(one_line(text, LONGEST) for text in texts), ""]
    for name, amounts, shown in _amounts(a, b):
        ratio = f"{amounts[1] / amounts[0]:.2f}x" if amounts[0] and amounts[1] is not None else ""
        yield [name, *("?" if amount is None else shown(amount) for amount in amounts), ratio]


def _told(a: Side, b: Side) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield what is different, each in words for both."""
    one, other = a.facts, b.facts
    for name in ("status", "model", "sub_model", "package_version", "python_version"):
        if one[name] != other[name]:
            yield name.replace("_", " "), (one[name], other[name])
    for name in ("image_id", "seed"):
        values = [None if side["sandbox"] is None else side["sandbox"][name] for side in (one, other)]
        if values[0] != values[1]:
            yield name.replace("_", " "), (str(values[0]), str(values[1]))
    questions = [[question["question"] for question in side["questions"]] for side in (one, other)]
    if questions[0] != questions[1]:
        yield "question", (" / ".join(questions[0]), " / ".join(questions[1]))
    contexts = [{each["name"]: each for each in side["contexts"]} for side in (one, other)]
    for name in dict.fromkeys([*contexts[0], *contexts[1]]):
        pair = contexts[0].get(name), contexts[1].get(name)
        if pair[0] is None or pair[1] is None or pair[0]["digest"] != pair[1]["digest"]:
            yield f"context {one_line(name, LONGEST)}", (_context(pair[0]), _context(pair[1]))
    for name, values in changed(a, b).items():
        yield f"setting {one_line(name, LONGEST)}", (str(values[0]), str(values[1]))


def changed(a: Side, b: Side) -> dict[str, list[Any]]:
    """Return the settings that differ, with both values; a setting that only one package knew is none."""
    names = [name for name in a.settings if name in b.settings and a.settings[name] != b.settings[name]]
    return {name: [a.settings[name], b.settings[name]] for name in names if name not in ("model", "sub_model")}


def _context(context: dict[str, Any] | None) -> str:
    return "none" if context is None else f"{context['digest'][:12]}, {context['size']} bytes"


def _amounts(a: Side, b: Side) -> Iterator[tuple[str, tuple[Any, Any], Any]]:
    sums, usage = (a.tree.sums, b.tree.sums), (a.tree.sums.usage, b.tree.sums.usage)
    yield "turns", (_turns(a), _turns(b)), str
    yield "cells", (a.cells, b.cells), str
    yield "sub-calls", (sums[0].subcalls, sums[1].subcalls), str
    yield "tool calls", (sums[0].tools, sums[1].tools), str
    yield "failed calls", (sums[0].failed, sums[1].failed), str
    yield "tokens in", (usage[0].input_tokens, usage[1].input_tokens), count
    yield "tokens out", (usage[0].output_tokens, usage[1].output_tokens), count
    yield "cost", (usage[0].cost_usd, usage[1].cost_usd), cost
    yield "time", (a.facts["seconds"], b.facts["seconds"]), took


def _turns(side: Side) -> int:
    return sum(question["turns"] for question in side.facts["questions"])


def _parting(compared: Comparison, parted: CellCompared | None) -> Iterator[str]:
    """Yield what the cells came to, the first difference, and those of the answers."""
    yield ""
    counts = ", ".join(f"{number} {outcome}" for outcome, number in compared.counts.items())
    yield f"cells: {counts or 'none'}"
    if parted is not None:
        where = f" in {one_line(', '.join(parted.where))}" if parted.where else ""
        node = f"{one_line(parted.node)} " if parted.node else ""
        yield f"they part at {node}cell {parted.cell} (turn {parted.turn}): {parted.outcome}{where}"
        yield from _diff(parted.diff)
    differing = [answer for answer in compared.answers if answer.outcome not in _SAME]
    yield f"answers: {len(compared.answers) - len(differing)} the same, {len(differing)} not"
    for answer in differing[:MOST_ANSWERS]:
        node = f"{one_line(answer.node)} " if answer.node else ""
        yield f"{node}answer {answer.ask}: {answer.outcome}"
        yield from _diff(answer.diff)


def _diff(diff: str) -> Iterator[str]:
    lines: Sequence[str] = clean(diff).splitlines()
    colours = {"+": "green", "-": "red"}
    for line in map(_named, lines[:MOST_LINES]):
        yield click.style(f"    {line}", fg=colours.get(line[:1]))
    if len(lines) > MOST_LINES:
        yield f"    … {len(lines) - MOST_LINES} more lines"


def _named(line: str) -> str:
    """Return a line of a difference whose sides are two runs, not one run then and now."""
    if line.startswith("--- "):
        return line.removesuffix(", recorded") + ", A"
    return line.removesuffix(", now") + ", B" if line.startswith("+++ ") else line


def _as_json(a: Side, b: Side, compared: Comparison, parted: CellCompared | None) -> dict[str, Any]:
    from rlm_kernel.cli.runs.branches import sums_json  # noqa: PLC0415 - as above

    return {
        "a": a.facts | {"sums": sums_json(a.tree.sums)},
        "b": b.facts | {"sums": sums_json(b.tree.sums)},
        "settings": changed(a, b),
        "same": not _differ(a, b, compared),
        "cells": dict(compared.counts),
        "parted": None if parted is None else msgspec.to_builtins(parted),
        "answers": [msgspec.to_builtins(answer) for answer in compared.answers],
    }
