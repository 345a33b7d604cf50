"""`rlm-kernel replay`: run a recorded run again, and tell what is not as it was recorded."""

from __future__ import annotations

import json
from gc import freeze
from typing import TYPE_CHECKING, Any

import click

from rlm_kernel.cli import exits
from rlm_kernel.cli.answering import write
from rlm_kernel.cli.contexts import store_sources
from rlm_kernel.cli.options import GroupingCommand, Output, chosen_output, output_options, settings_options
from rlm_kernel.cli.outcome import as_json as result_json
from rlm_kernel.cli.replay_report import report_json, report_lines, summary
from rlm_kernel.cli.running import run_cancellable
from rlm_kernel.config import resolve

if TYPE_CHECKING:
    from rlm_kernel.assembly import RunResult
    from rlm_kernel.assembly.rerun.replay import Again, ReplayReport
    from rlm_kernel.config import Settings


@click.command(cls=GroupingCommand)
@click.argument("run")
@click.option("--keep", is_flag=True, help="Keep the replay's own recording.")
@click.option(
    "--live-from",
    metavar="N",
    type=click.IntRange(1),
    help="Go on with live models from turn N, as `fork --at` does from the one before it.",
)
@click.option(
    "-c",
    "--context",
    "sources",
    metavar="[NAME=][FORM:]PATH",
    multiple=True,
    help="A context in place of the recorded one, such as a file that the content store has lost.",
)
@output_options
@settings_options
def replay(
    run: str,
    *,
    keep: bool,
    live_from: int | None,
    sources: tuple[str, ...],
    quiet: bool,
    as_json: bool,
    verbose: bool,
    **options: str | None,
) -> int:
    """Run a recorded run again and compare each cell.

    RUN is an id, a beginning or end of one, `last`, or a path. It runs in a fresh container, with the recorded answers
    of models and tools: no key and no network is needed, and nothing is paid.
    """
    from rlm_kernel.assembly.rerun.replay import Again  # noqa: PLC0415 - its imports take too long for `--help`

    output = chosen_output(quiet=quiet, as_json=as_json, verbose=verbose)
    settings = resolve(options)
    freeze()  # as for a run
    given = frozenset(name for name, text in options.items() if text is not None)
    context = store_sources(sources, settings) if sources else None
    report, result = _run(settings, output, Again(run=run, context=context, given=given, keep=keep), live_from)
    if output.as_json:
        click.echo(json.dumps(report_json(report) | ({} if result is None else {"live": result_json(result)})))
    else:
        _write(report, output, err=result is not None)
        if result is not None:
            write(result, output)
    if report.differs:
        return exits.DIFFERENT
    return exits.PARTIAL if result is not None and result.status == "partial" else 0


def _run(
    settings: Settings, output: Output, wanted: Again, live_from: int | None
) -> tuple[ReplayReport, RunResult[Any] | None]:
    from rlm_kernel.assembly.kept import Kept  # noqa: PLC0415 - as above
    from rlm_kernel.assembly.rerun.replay import replay_live, replay_run  # noqa: PLC0415
    from rlm_kernel.assembly.sinks import Listeners  # noqa: PLC0415

    progress = output.progress()

    async def replaying() -> tuple[ReplayReport, RunResult[Any] | None]:
        kept, listeners = Kept(settings), Listeners(on_event=progress, on_text=progress.listener)
        try:
            if live_from is not None:
                return await replay_live(kept, listeners, wanted, live_from)
            return await replay_run(kept, listeners, wanted), None
        finally:
            await kept.aclose()

    with progress:
        return run_cancellable(replaying())


def _write(report: ReplayReport, output: Output, *, err: bool) -> None:
    """Write a report; to standard error where an answer follows."""
    if not output.quiet:
        for line in report_lines(report, verbose=output.verbose):
            click.echo(line, err=err)
    if not (output.quiet and err):
        click.echo(summary(report), err=err)
