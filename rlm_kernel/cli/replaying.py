"""`rlm-kernel replay`: run a recorded run again, and tell what is not as it was recorded."""

from __future__ import annotations

import json
from gc import freeze
from typing import TYPE_CHECKING

import click

from rlm_kernel.cli import exits
from rlm_kernel.cli.compared import report_json, report_lines, summary
from rlm_kernel.cli.contexts import store_sources
from rlm_kernel.cli.options import GroupingCommand, Output, chosen_output, machine_options, output_options
from rlm_kernel.cli.running import run_cancellable
from rlm_kernel.config import resolve

if TYPE_CHECKING:
    from rlm_kernel.assembly.replayed import ReplayReport


@click.command(cls=GroupingCommand)
@click.argument("run")
@click.option("--keep", is_flag=True, help="Keep the replay's own recording.")
@click.option(
    "-c",
    "--context",
    "sources",
    metavar="[NAME=][FORM:]PATH",
    multiple=True,
    help="A context in place of the recorded one, such as a file that the content store has lost.",
)
@output_options
@machine_options()
def replay(
    run: str, *, keep: bool, sources: tuple[str, ...], quiet: bool, as_json: bool, verbose: bool, **options: str | None
) -> int:
    """Run a recorded run again and compare each cell.

    RUN is an id, a beginning or end of one, `last`, or a path. It runs in a fresh container,
    with the recorded answers of models and tools: no key and no network is needed, and nothing is paid.
    """
    output = chosen_output(quiet=quiet, as_json=as_json, verbose=verbose)
    settings = resolve(options)
    freeze()  # as for a run
    context = store_sources(sources, settings) if sources else None

    from rlm_kernel.assembly.kept import Kept  # noqa: PLC0415 - its imports take too long for `--help`
    from rlm_kernel.assembly.replayed import Again, replay_run  # noqa: PLC0415
    from rlm_kernel.assembly.sinks import Listeners  # noqa: PLC0415

    progress = output.progress()

    async def replaying() -> ReplayReport:
        kept = Kept(settings)
        try:
            return await replay_run(kept, Listeners(on_event=progress), Again(run=run, context=context, keep=keep))
        finally:
            await kept.aclose()

    with progress:
        report = run_cancellable(replaying())
    _write(report, output)
    return exits.DIFFERENT if report.differs else 0


def _write(report: ReplayReport, output: Output) -> None:
    if output.as_json:
        click.echo(json.dumps(report_json(report)))
        return
    if not output.quiet:
        for line in report_lines(report, verbose=output.verbose):
            click.echo(line)
    click.echo(summary(report))
