"""`rlm-kernel gc`: remove what killed sessions left."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from rlm_kernel.cli import exits
from rlm_kernel.cli.text import clean
from rlm_kernel.config import resolve

if TYPE_CHECKING:
    from rlm_kernel.sandbox.sweep import Leftover


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object to standard output, errors too.")
@click.option("--docker-host", metavar="URL", help="The Docker engine's address; DOCKER_HOST if not given.")
@click.option("--state-dir", metavar="FOLDER", help="Where recordings and contexts are kept.")
def gc(*, dry_run: bool, as_json: bool, docker_host: str | None, state_dir: str | None) -> int:
    """Remove what killed sessions left.

    That is containers, folders, unfinished files and processes. Recordings, contexts, and whatever belongs to a living
    session stay. Every process does the same once it has started its first session.
    """
    from rlm_kernel.assembly.sweeping import sweep  # noqa: PLC0415 - its imports take too long for `--help`

    leftovers = sweep(resolve({"docker_host": docker_host, "state_dir": state_dir}), dry_run=dry_run)
    if as_json:
        rows = [{name: getattr(left, name) for name in ("kind", "name", "reason", "error")} for left in leftovers]
        click.echo(json.dumps({"dry_run": dry_run, "leftovers": rows}))
    else:
        _write_table(leftovers, dry_run=dry_run)
    return exits.NOT_SWEPT if any(left.error for left in leftovers) else 0


def _write_table(leftovers: list[Leftover], *, dry_run: bool) -> None:
    if not leftovers:
        click.echo("nothing is left over", err=True)
    for left in leftovers:
        done = "not removed" if left.error else "would go" if dry_run else "removed"
        click.echo(clean(f"{done:11}  {left.kind:15}  {_short(left)}  {left.error or left.reason}"))


def _short(left: Leftover) -> str:
    return left.name[:12] if left.kind == "container" else left.name
