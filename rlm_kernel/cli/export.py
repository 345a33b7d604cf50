"""`rlm-kernel export`: write a run as a document."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import click

from rlm_kernel.cli.export_chat import LEVELS, OUTCOMES, Wanted, write_chat
from rlm_kernel.cli.text import clean
from rlm_kernel.config import resolve
from rlm_kernel.errors import RecordingDamaged
from rlm_kernel.export.formats import FORMATS, Format
from rlm_kernel.recording.bundle.unpack import opened_run
from rlm_kernel.recording.find import run_folders

CHAT = "chat"
_DOCUMENTS, _CHATS = ("node", "shorten"), ("level", "outcomes", "all_runs")
_OF_DOCUMENTS = ("output", "force", *_DOCUMENTS)


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1)
@click.option("--to", type=click.Choice((*FORMATS, CHAT)), help="The format; what FILE's name ends with, else ipynb.")
@click.option("-o", "--output", metavar="FILE", default=".", help="The file, a folder, or - for standard output.")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@click.option("--node", metavar="NODE", default="", help="Only this session of the run, such as s3 or s3/s1.")
@click.option("--shorten", metavar="N", type=click.IntRange(min=1), help="Characters that each text has at most.")
@click.option("--level", type=click.Choice(LEVELS), help="Of chat: sessions (root, the default), single calls (sub).")
@click.option(
    "--status", "outcomes", type=click.Choice(OUTCOMES), multiple=True, help="Of chat: how questions ended. [answered]"
)
@click.option("--all", "all_runs", is_flag=True, help="Of chat: all recorded runs.")
@click.option("--state-dir", metavar="FOLDER", help="Where recordings and contexts are kept.")
def export(runs: tuple[str, ...], *, to: str | None, state_dir: str | None, **options: Any) -> None:
    """Write runs as notebooks, pages, Markdown or training data.

    RUN is a run's id, its beginning or end, `last`, or a path. Without -o the file is named for the run, in the current
    folder; its name goes to standard output. Nothing in it runs or is fetched when it is opened. `--to chat` writes the
    conversations of one run or more, one a line, to chat.jsonl.
    """
    folder = resolve({"state_dir": state_dir}).state_dir
    if bool(runs) == options["all_runs"] or (to != CHAT and len(runs) != 1):
        raise click.UsageError("name one RUN; of chat several, or --all")
    given = [name for name in (_DOCUMENTS if to == CHAT else _CHATS) if options[name]]
    if given:
        raise click.UsageError(f"--{given[0].replace('outcomes', 'status')} is {'not ' if to == CHAT else ''}of chat")
    with ExitStack() as opened:
        named = (opened.enter_context(opened_run(folder, run)) for run in runs)
        found = run_folders(folder) if options["all_runs"] else list(named)
        if to == CHAT:
            asked = Wanted(
                level=options["level"] or LEVELS[0],
                outcomes=options["outcomes"] or OUTCOMES[:1],
                output=options["output"],
                force=options["force"],
            )
            write_chat(found, asked)
        else:
            (recording,) = found
            _write_document(recording, cast("Format | None", to), **{name: options[name] for name in _OF_DOCUMENTS})


def _write_document(
    recording: Path, to: Format | None, *, output: str, force: bool, node: str, shorten: int | None
) -> None:
    from rlm_kernel.export.write import export_run  # noqa: PLC0415 - its imports take too long for `--help`

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
