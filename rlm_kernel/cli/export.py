"""`rlm-kernel export`: write a run as a document."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from rlm_kernel.cli.text import clean
from rlm_kernel.config import resolve
from rlm_kernel.errors import RecordingDamaged
from rlm_kernel.export.formats import FORMATS, Format
from rlm_kernel.recording.find import find_run


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--to", type=click.Choice(FORMATS), help="The format; what FILE's name ends with, else ipynb.")
@click.option("-o", "--output", metavar="FILE", default=".", help="The file, a folder, or - for standard output.")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@click.option("--node", metavar="NODE", default="", help="Only this session of the run, such as s3 or s3/s1.")
@click.option("--shorten", metavar="N", type=click.IntRange(min=1), help="Characters that each text has at most.")
@click.option("--state-dir", metavar="FOLDER", help="Where recordings and contexts are kept.")
def export(
    *,
    run: str,
    to: Format | None,
    output: str,
    force: bool,
    node: str,
    shorten: int | None,
    state_dir: str | None,
) -> None:
    """Write RUN as a notebook, a page, Markdown, or its records.

    RUN is a run's id, its beginning or end, `last`, or a path. Without -o the file is named for the run, in the current
    folder; its name goes to standard output. Nothing in it runs or is fetched when it is opened.
    """
    from rlm_kernel.export.write import export_run  # noqa: PLC0415 - its imports take too long for `--help`

    recording = find_run(resolve({"state_dir": state_dir}).state_dir, run)
    target = sys.stdout.buffer if output == "-" else Path(output)
    if output == "-":
        to = to or "ipynb"
    exported = export_run(recording, target, to=to, node=node, shorten=shorten, force=force)
    for warning in exported.warnings:
        click.echo(f"rlm-kernel: {clean(warning)}", err=True)
    if exported.path is not None:
        click.echo(clean(str(exported.path)))
    if exported.damage is not None:
        raise RecordingDamaged(f"{exported.damage}; what stands before it was written")
