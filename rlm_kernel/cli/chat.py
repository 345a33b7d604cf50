"""`rlm-kernel chat`: questions about one context, one after another."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from rlm_kernel.cli import exits
from rlm_kernel.cli.answering import check_models, write
from rlm_kernel.cli.contexts import store_sources
from rlm_kernel.cli.options import GroupingCommand, Output, chosen_output, output_options, settings_options
from rlm_kernel.cli.outcome import write_error
from rlm_kernel.config import resolve
from rlm_kernel.errors import RlmKernelError, SandboxError, SessionError, StorageError

if TYPE_CHECKING:
    from rlm_kernel.assembly import SessionInThread
    from rlm_kernel.cli.progress import Progress


@click.command(cls=GroupingCommand)
@click.option(
    "-c",
    "--context",
    "sources",
    metavar="[NAME=][FORM:]PATH",
    multiple=True,
    required=True,
    help="A file or a folder; again with a name for each of several. FORM: table, json, jsonl.",
)
@click.option("--skip-binary", is_flag=True, help="Leave out a folder's files that are not text.")
@output_options
@settings_options
def chat(
    sources: tuple[str, ...], *, skip_binary: bool, quiet: bool, as_json: bool, verbose: bool, **options: str | None
) -> int:
    """Answer questions about a context in one session, each a line.

    They are read from standard input. A question without an answer is told, and the next one is asked; the exit status
    is the last such question's. Ctrl-C stops a question in a terminal, and everything elsewhere.
    """
    from rlm_kernel.assembly import RLM  # noqa: PLC0415 - its imports take too long for `--help`

    output = chosen_output(quiet=quiet, as_json=as_json, verbose=verbose)
    settings = resolve(options)
    if any(source.rpartition("=")[2].rpartition(":")[2] == "-" for source in sources):
        raise click.UsageError("standard input is for the questions: give the context as a file")
    asyncio.run(check_models(settings))
    stored = store_sources(sources, settings, skip_binary=skip_binary)
    progress = output.progress()
    status = 0
    with (
        RLM(settings=settings, on_event=progress, on_text=progress.listener) as rlm,
        rlm.session(stored) as session,
    ):
        for question in _questions():
            status = _ask(session, question, progress, output) or status
    return status


def _ask(session: SessionInThread, question: str, progress: Progress, output: Output) -> int:
    """Write the answer, or why there is none, and return the status. Raise what ends the session."""
    try:
        with progress:
            result = session.ask(question)
    except (SandboxError, SessionError, StorageError):
        raise
    except RlmKernelError as error:
        return write_error(error, as_json=output.as_json)
    except KeyboardInterrupt as error:
        if not sys.stdin.isatty():
            raise
        return write_error(error, as_json=output.as_json)
    write(result, output)
    sys.stdout.flush()
    return exits.PARTIAL if result.status == "partial" else 0


def _questions() -> Iterator[str]:
    """Yield the lines of standard input that are not blank; ask for each in a terminal."""
    while True:
        if sys.stdin.isatty():
            click.echo("> ", nl=False, err=True)
        line = sys.stdin.buffer.readline()
        if not line:
            return
        if question := line.decode("utf-8", "replace").strip():
            yield question
