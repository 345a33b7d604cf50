"""`rlm-kernel resume` and `rlm-kernel fork`: go on from a recorded run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from gc import freeze
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rlm_kernel.cli import exits
from rlm_kernel.cli.answering import write
from rlm_kernel.cli.contexts import store_sources
from rlm_kernel.cli.options import GroupingCommand, chosen_output, output_options, settings_options
from rlm_kernel.cli.running import run_cancellable
from rlm_kernel.cli.schema import read_schema
from rlm_kernel.config import resolve

if TYPE_CHECKING:
    from rlm_kernel.assembly import RunResult

F = TypeVar("F", bound=Callable[..., Any])


def _common_options(command: F) -> F:
    sources = click.option(
        "-c",
        "--context",
        "sources",
        metavar="[NAME=][FORM:]PATH",
        multiple=True,
        help="A context in place of the recorded one, such as a file that the content store has lost.",
    )
    anyway = click.option("--anyway", is_flag=True, help="Go on though a cell did not run again as it had.")
    return sources(anyway(output_options(settings_options(command))))


@click.command(cls=GroupingCommand)
@click.argument("run")
@_common_options
def resume(run: str, **given: Any) -> int:
    """Go on with a RUN that was cut off, where its recording ends.

    RUN is an id, a beginning or end of one, `last`, or a path. Its cells run again with the recorded answers, and
    nothing is paid for twice. It becomes a new run; settings that are not given are as recorded.
    """
    from rlm_kernel.assembly.rerun.resume import resume_run  # noqa: PLC0415 - its imports take too long for `--help`

    return _go_on(run, given, resume_run)


@click.command(cls=GroupingCommand)
@click.argument("run")
@click.option("--at", metavar="N", type=click.IntRange(0), help="The turn to go on after; the last one if not given.")
@click.option("--question", metavar="TEXT", help="Ask this in place of what the run was asked.")
@click.option("--answer-schema", metavar="FILE", help="A JSON schema; the answer to --question is JSON that fits it.")
@_common_options
def fork(run: str, *, at: int | None, question: str | None, answer_schema: str | None, **given: Any) -> int:
    """Go on from any turn of a RUN, as a run of its own.

    RUN is an id, a beginning or end of one, `last`, or a path. Turns count over all questions of it. The new run may
    have other models, settings or another question, and has a budget of its own; settings that are not given are as
    recorded.
    """
    from rlm_kernel.assembly.asked import Asked  # noqa: PLC0415 - as above
    from rlm_kernel.assembly.rerun.resume import fork_run  # noqa: PLC0415 - as above

    if at is None and question is None:
        raise click.UsageError("say where to go on from with --at N, or what to ask with --question")
    if answer_schema is not None and question is None:
        raise click.UsageError("--answer-schema is for a --question")
    schema = None if answer_schema is None else read_schema(Path(answer_schema))
    asked = None if question is None else Asked.of(question, schema)
    return _go_on(run, given, partial(fork_run, at=at, question=asked))


def _go_on(run: str, given: dict[str, Any], go_on: Callable[..., Awaitable[RunResult[Any]]]) -> int:
    """Go on as `given` says, with the progress shown, write the answer, and return the exit status."""
    from rlm_kernel.assembly.kept import Kept  # noqa: PLC0415 - as above
    from rlm_kernel.assembly.rerun.resume import GoOn  # noqa: PLC0415 - as above
    from rlm_kernel.assembly.sinks import Listeners  # noqa: PLC0415 - as above

    output = chosen_output(**{name: given.pop(name) for name in ("quiet", "as_json", "verbose")})
    sources, anyway = given.pop("sources"), given.pop("anyway")
    settings = resolve(given)
    freeze()  # as for a run
    wanted = GoOn(
        run=run,
        given=frozenset(name for name, text in given.items() if text is not None),
        context=store_sources(sources, settings) if sources else None,
        anyway=anyway,
    )
    progress = output.progress()

    async def going() -> RunResult[Any]:
        kept = Kept(settings)
        try:
            return await go_on(kept, Listeners(on_event=progress, on_text=progress.listener), wanted)
        finally:
            await kept.aclose()

    with progress:
        result = run_cancellable(going())
    write(result, output)
    output.say(f"run {result.run}")
    return exits.PARTIAL if result.status == "partial" else 0
