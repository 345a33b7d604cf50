"""`rlm-kernel runs show`: what a run was, what it came to, and its call tree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from rlm_kernel.cli import exits
from rlm_kernel.cli.figures import cost, count, output_text, size, took
from rlm_kernel.cli.text import clean, one_line
from rlm_kernel.cli.when import utc
from rlm_kernel.config import resolve
from rlm_kernel.errors import RecordingDamaged

if TYPE_CHECKING:
    from rlm_kernel.cli.runs.facts import Facts
    from rlm_kernel.recording import Recording
    from rlm_kernel.recording.family import Relative

LONGEST_TEXT = 600
"""Characters of a question, of an answer, or of a cell's code or output that are shown unless all is wanted."""
MOST_QUESTIONS = 5
_COSTS = ("max_cost",)
_TIMES = ("run_timeout",)


@click.command()
@click.argument("run")
@click.option("--full", is_flag=True, help="Unfold everything.")
@click.option("--node", default="", metavar="NODE", help="Show this session below: s3, or s3/s1.")
@click.option("--turn", type=click.IntRange(min=1), metavar="N", help="Show this turn, unfolded.")
@click.option(
    "--cell", type=click.IntRange(min=1), metavar="N", help="Show this cell, unfolded, with code and outputs."
)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object to standard output, errors too.")
@click.option("--state-dir", metavar="FOLDER", help="Where recordings and contexts are kept.")
def show(*, run: str, as_json: bool, state_dir: str | None, **opened: Any) -> int:
    """Show what RUN came to, and its calls as a tree.

    Of a recording that is damaged, what stands before the damage is shown, and the exit status says so.
    """
    from rlm_kernel.cli.runs.branches import branch_json, tree_lines  # noqa: PLC0415 - as above
    from rlm_kernel.cli.runs.facts import facts  # noqa: PLC0415
    from rlm_kernel.recording import Recording, opened_run, summaries  # noqa: PLC0415
    from rlm_kernel.recording.family import family  # noqa: PLC0415
    from rlm_kernel.recording.tree import Opened, call_tree  # noqa: PLC0415

    folder = resolve({"state_dir": state_dir}).state_dir
    wanted = Opened(**opened)
    with opened_run(folder, run) as path, Recording(path, partial=True) as recording:
        tree = call_tree(recording, wanted)
        if as_json:
            told = facts(recording, tree.sums) if wanted in (Opened(), Opened(full=True)) else {}
            click.echo(json.dumps(told | {"tree": branch_json(tree)}))
        elif wanted in (Opened(), Opened(full=True)):
            told = facts(recording, tree.sums)
            _echo(_head(told, full=wanted.full))
            relatives = family(told["run"], recording.started.origin, summaries(folder))
            _echo(_family(relatives, told["run"]))
            click.echo()
            _echo(tree_lines(tree))
        else:
            if wanted.cell is not None:
                _echo(_cell(recording, wanted.node, wanted.cell))
            _echo(tree_lines(tree))
        if recording.damage is not None:
            click.echo(clean(f"what follows is damaged: {recording.damage}"), err=True)
            return exits.BY_ERROR[RecordingDamaged]
    return 0


def _echo(lines: Iterator[str]) -> None:
    for line in lines:
        click.echo(line)


def _head(told: Facts, *, full: bool) -> Iterator[str]:
    sandbox = told["sandbox"]
    yield f"run        {one_line(told['run'])}  {told['status']}, {utc(told['at'])}, {took(told['seconds'])}"
    if told["problem"]:
        yield f"problem    {one_line(told['problem'], LONGEST_TEXT)}"
    yield f"recording  {one_line(told['recording'], 1000)}, {told['records']} records"
    if told["torn_bytes"]:
        yield f"           its last line is torn: {size(told['torn_bytes'])}"
    yield f"models     {one_line(told['model'])}, sub-calls {one_line(told['sub_model'])}"
    yield f"versions   rlm_kernel {one_line(told['package_version'])}, Python {one_line(told['python_version'])}"
    if sandbox is not None:
        seed = "" if sandbox["seed"] is None else f", seed {sandbox['seed']}"
        yield f"image      {one_line(sandbox['image'])} {one_line(sandbox['image_id'])}{seed}"
        yield f"engine     {one_line(sandbox['engine'])}, {one_line(sandbox['oci_runtime'])}"
    for context in told["contexts"]:
        named = f"{one_line(context['name'], 60)}: {context['kind']}, {size(context['size'])}"
        yield f"context    {named}, {one_line(context['digest'], 64)}, from {one_line(context['source'], 100)}"
    for name, value in told["settings"].items():
        yield f"setting    {name} = {one_line(str(value))}"
    for limit in told["limits"]:
        yield f"limit      {limit['limit']}: {_amount(limit, 'used')} of {_amount(limit, 'allowed')}"
    before = (told["origin"] or {}).get("usage", {})
    for word, used in (("used", told["usage"]), ("before", before)):
        for model, usage in used.items():
            tokens = f"{count(usage['input_tokens'])} in, {count(usage['output_tokens'])} out"
            yield f"{word:<11}{one_line(model, 60)}: {usage['calls']} calls, {tokens}, {cost(usage['cost_usd'])}"
    yield from _questions(told["questions"], full=full)


def _amount(limit: dict[str, Any], which: str) -> str:
    name, value = limit["limit"], limit[which]
    if name in _COSTS:
        return "?" if value is None else cost(value)
    return took(value) if name in _TIMES else str(value)


def _questions(questions: list[dict[str, Any]], *, full: bool) -> Iterator[str]:
    shown = questions if full else questions[:MOST_QUESTIONS]
    for each in shown:
        yield f"question   {_text(each['question'], full=full)}"
        if each["answer"] is not None:
            yield f"answer     {_text(each['answer'], full=full)}"
        if each["problem"]:
            yield f"           {one_line(each['problem'], LONGEST_TEXT)}"
    if len(questions) > len(shown):
        yield f"           and {len(questions) - len(shown)} more questions"


def _text(text: str, *, full: bool, indent: str = " " * 11) -> str:
    """Return a text of several lines below a title, cut unless all of it is wanted."""
    if not full and len(text) > LONGEST_TEXT:
        text = f"{text[:LONGEST_TEXT]}… ({len(text)} characters)"
    return f"\n{indent}".join(clean(text).splitlines())


def _family(root: Relative, run: str) -> Iterator[str]:
    """Yield a line for each run of the family; nothing for a run without one."""
    if not root.below:
        return
    yield ""
    waiting: list[tuple[int, Relative]] = [(0, root)]
    while waiting:
        depth, relative = waiting.pop()
        how = ""
        if depth and relative.origin is not None:
            at = "" if relative.origin.turn is None else f" at turn {relative.origin.turn}"
            how = f"{relative.origin.how}{at}: "
        status = "gone" if relative.summary is None else relative.summary.status
        here = "  (this one)" if relative.run == run else ""
        yield f"family     {'  ' * min(depth, 20)}{how}{one_line(relative.run, 60)}  {status}{here}"
        waiting += [(depth + 1, below) for below in reversed(relative.below)]


def _cell(recording: Recording, node: str, number: int) -> Iterator[str]:
    """Yield a cell's code and its outputs."""
    from rlm_kernel.events import CellOutput, CellStarted  # noqa: PLC0415 - as above

    cell = recording.nodes[node].cells[number]
    yield from clean(recording.expect(cell.started, CellStarted).code).splitlines()
    for seq in cell.outputs:
        if isinstance(event := recording.event(seq), CellOutput):
            yield "---"
            yield from clean(output_text(event.output)).splitlines()
    yield ""
