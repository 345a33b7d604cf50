"""`rlm-kernel runs delete` and `prune`: remove recorded runs, and contexts that none needs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlm_kernel.cli import exits
from rlm_kernel.cli.figures import size
from rlm_kernel.cli.text import clean
from rlm_kernel.config import resolve
from rlm_kernel.config.values import parse_size
from rlm_kernel.errors import ConfigError, RecordingError

if TYPE_CHECKING:
    from rlm_kernel.config import Settings
    from rlm_kernel.recording.removal import Going
    from rlm_kernel.sandbox.unneeded import Unneeded

YES = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Write one JSON object to standard output, errors too.")
STATE = click.option("--state-dir", metavar="FOLDER", help="Where recordings and contexts are kept.")


@click.command()
@click.argument("named", metavar="RUN...", nargs=-1, required=True)
@YES
@AS_JSON
@STATE
def delete(*, named: tuple[str, ...], yes: bool, as_json: bool, state_dir: str | None) -> None:
    """Remove recorded runs.

    Runs that replay, resume or fork one of them stay whole: each recording is complete by itself.
    """
    from rlm_kernel.recording import find_run, summaries  # noqa: PLC0415 - as above
    from rlm_kernel.recording.removal import removable, remove_run  # noqa: PLC0415

    state = resolve({"state_dir": state_dir}).state_dir
    folders = list(dict.fromkeys(removable(state, find_run(state, each)) for each in named))
    names = {folder.name for folder in folders}
    left = [each.run for each in summaries(state) if each.origin and each.origin.run in names and each.run not in names]
    if left and not as_json:
        click.echo(clean(f"these are from them, and stay: {', '.join(left)}"), err=True)
    if not (yes or _agreed(f"Delete {', '.join(folder.name for folder in folders)}?")):
        return
    for folder in folders:
        remove_run(removable(state, folder / "events.jsonl"))
        if not as_json:
            click.echo(f"deleted {folder.name}")
    if as_json:
        click.echo(json.dumps({"deleted": [folder.name for folder in folders], "from_them": left}))


class Size(click.ParamType[int]):
    """A size such as 512m or 2g, in bytes."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bytes."""
        try:
            return parse_size(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.option("--keep-days", "days", type=click.FloatRange(min=0), metavar="D", help="Runs that are older go.")
@click.option("--keep-last", "last", type=click.IntRange(min=0), metavar="N", help="The last N stay; alone: others go.")
@click.option("--max-size", "most", type=Size(), metavar="SIZE", help="The oldest go, until no more is there.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@YES
@AS_JSON
@STATE
def prune(
    *,
    days: float | None,
    last: int | None,
    most: int | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    state_dir: str | None,
) -> int:
    """Remove runs by a rule, and contexts that no run needs.

    Without a rule here that of the settings counts, --keep-runs-days and --keep-runs-size. Runs that are being written,
    or were in the last ten minutes, stay, as do contexts that were used within the last hour.
    """
    from rlm_kernel.assembly.retention import rule_of  # noqa: PLC0415 - as above
    from rlm_kernel.recording.removal import Rule, outlived, remove_run  # noqa: PLC0415

    settings = resolve({"state_dir": state_dir})
    _no_links(settings.runs_dir, settings.contexts_dir)
    rule = Rule(days=days, size=most, last=last)
    if days is None and most is None:
        rule = replace(rule_of(settings), last=last)
    going = outlived(settings.state_dir, rule)
    contexts, problem = _contexts(settings, [each.folder for each in going], dry_run=True)
    if not as_json:
        _tell(going, contexts)
    if not dry_run and (going or contexts):
        if not (yes or _agreed("Remove these?")):
            return 0
        for each in going:
            remove_run(each.folder)
        contexts, problem = _contexts(settings)
    if as_json:
        click.echo(json.dumps(_as_json(going, contexts, problem, dry_run=dry_run)))
    elif problem is not None:
        click.echo(clean(f"all contexts stay, as nobody knows what this run needs: {problem}"), err=True)
    return 0 if problem is None else exits.BY_ERROR[RecordingError]


def _contexts(
    settings: Settings, without: Sequence[Path] = (), *, dry_run: bool = False
) -> tuple[list[Unneeded], str | None]:
    """Return the contexts that no run needs, or none and why nobody can tell."""
    from rlm_kernel.assembly.retention import unneeded_contexts  # noqa: PLC0415 - as above

    try:
        return unneeded_contexts(settings, without, dry_run=dry_run), None
    except RecordingError as error:
        return [], str(error)


def _no_links(*folders: Path) -> None:
    from rlm_kernel.storage import storing  # noqa: PLC0415 - as above

    for folder in folders:
        with storing(folder):
            is_link = folder.is_symlink()
        if is_link:
            raise ConfigError(f"{folder} is a link, and nothing is removed through one")


def _agreed(question: str) -> bool:
    """Ask on the terminal. Raise `UsageError` where there is none."""
    if not _terminal():
        raise click.UsageError("there is no terminal to ask on: give --yes to remove without asking")
    return click.confirm(question, err=True)


def _terminal() -> bool:
    return sys.stdin.isatty()


def _tell(going: Sequence[Going], contexts: Sequence[Unneeded]) -> None:
    for each in going:
        click.echo(f"{each.folder.name}  {size(each.size)}  {each.reason}")
    count, total = len(contexts), sum(context.size for context in contexts)
    click.echo(
        f"{len(going)} runs, {size(sum(each.size for each in going))}; "
        f"{count} contexts that no other run needs, {size(total)}",
        err=True,
    )


def _as_json(
    going: Sequence[Going], contexts: Sequence[Unneeded], problem: str | None, *, dry_run: bool
) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "runs": [{"run": each.folder.name, "size": each.size, "reason": each.reason} for each in going],
        "contexts": [{"digest": each.digest, "size": each.size} for each in contexts],
        "problem": problem,
    }
