"""The commands of `rlm-kernel`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from rlm_kernel import __version__
from rlm_kernel.cli import checks, exits
from rlm_kernel.cli.answering import NO_CONTEXT, answer
from rlm_kernel.cli.chat import chat
from rlm_kernel.cli.configuration import config
from rlm_kernel.cli.demo import QUESTION, demo_settings, judge, next_steps, write_text
from rlm_kernel.cli.export import export
from rlm_kernel.cli.gc import gc
from rlm_kernel.cli.jobs import run_job_file
from rlm_kernel.cli.options import GroupingCommand, InOrder, chosen_output, output_options, settings_options
from rlm_kernel.cli.outcome import write_error
from rlm_kernel.cli.replay import replay
from rlm_kernel.cli.resume import fork, resume
from rlm_kernel.cli.running import raise_on_signals
from rlm_kernel.cli.runs.group import runs
from rlm_kernel.cli.schema import read_schema
from rlm_kernel.config import resolve
from rlm_kernel.config.job import is_job_file
from rlm_kernel.errors import EmptyQuestion

STATUSES = "\b\nExit statuses:\n" + "\n".join(f"  {status:>3}  {text}" for status, text in exits.statuses().items())


@click.group(
    cls=InOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120}, epilog=STATUSES
)
@click.version_option(__version__, prog_name="rlm-kernel")
def cli() -> None:
    """Answer questions about long texts with Recursive Language Models, in locked-down containers."""


@cli.command(cls=GroupingCommand)
@click.argument("question")
@click.option(
    "-c",
    "--context",
    "sources",
    metavar="[NAME=][FORM:]PATH",
    multiple=True,
    help="A file, a folder, or - for standard input; again with a name for each of several. FORM: table, json, jsonl.",
)
@click.option("--root", metavar="FOLDER", help="Where a job's contexts may lie; the folder of its file if not given.")
@click.option("--skip-binary", is_flag=True, help="Leave out a folder's files that are not text.")
@click.option("--answer-schema", metavar="FILE", help="A JSON schema; the answer is JSON that fits it.")
@output_options
@settings_options
def run(
    question: str,
    sources: tuple[str, ...],
    *,
    root: str | None,
    skip_binary: bool,
    quiet: bool,
    as_json: bool,
    verbose: bool,
    **options: str | None,
) -> int:
    """Answer QUESTION about a context, or run a job's file.

    The context is a file, a folder, or what is piped in. Without --context, a QUESTION that is the path of a .json,
    .yaml, .yml or .toml file is a job.
    """
    output = chosen_output(quiet=quiet, as_json=as_json, verbose=verbose)
    schema = options.pop("answer_schema")
    if not sources and is_job_file(question):
        for option, given in (("--skip-binary", skip_binary), ("--answer-schema", schema is not None)):
            if given:
                raise click.UsageError(f"{option} is for a --context, not for a job")
        return run_job_file(Path(question), options, output, Path(root) if root else None)
    if root is not None:
        raise click.UsageError("--root is for a job's file alone")
    settings = resolve(options)
    if not question.strip():
        raise EmptyQuestion("the question is empty; put it in quotes after the options")
    if not sources and sys.stdin.isatty():
        raise click.UsageError(NO_CONTEXT)
    wanted = None if schema is None else read_schema(Path(schema))
    result = answer(question, sources, settings, output, skip_binary=skip_binary, schema=wanted)
    return exits.PARTIAL if result.status == "partial" else 0


cli.add_command(chat)
cli.add_command(resume)
cli.add_command(fork)


@cli.command("demo")
@output_options
def run_demo(*, quiet: bool, as_json: bool, verbose: bool) -> int:
    """Answer a question that needs no key, and check the answer.

    It has a scripted root model, a small local sub-model and a real container.
    """
    output = chosen_output(quiet=quiet, as_json=as_json, verbose=verbose)
    settings = demo_settings()
    text = write_text(settings.state_dir)
    output.say(f"The text: {text.stat().st_size / 1e6:.1f} MB of Python's standard library, in {text}")
    output.say(f"The question: {QUESTION}")
    result = answer(QUESTION, [str(text)], settings, output)
    verdict = judge(result, text)
    output.say("\n".join([verdict.text, *next_steps(text, os.environ)]))
    return 0 if verdict.right else exits.DEMO_WRONG


cli.add_command(runs)
cli.add_command(export)
cli.add_command(replay)
cli.add_command(config)
cli.add_command(checks.doctor)
cli.add_command(checks.audit)


@cli.group()
def image() -> None:
    """Build or name the sandbox image."""


@image.command()
@click.option("--rebuild", is_flag=True, help="Build it even if it is there.")
@click.option("--base", default="auto", show_default=True, help="An image to build on, `debian`, or `auto`.")
@click.option("--docker-host", metavar="URL", help="The Docker engine's address; DOCKER_HOST if not given.")
def build(*, rebuild: bool, base: str, docker_host: str | None) -> None:
    """Build the sandbox image unless it is there, and print its name."""
    from rlm_kernel.sandbox.engine import connect  # noqa: PLC0415 - as above
    from rlm_kernel.sandbox.image import ensure_image  # noqa: PLC0415

    client = connect(resolve({"docker_host": docker_host}).docker_host)
    try:
        tag = ensure_image(client, base=base, progress=lambda line: click.echo(line, err=True), rebuild=rebuild)
    finally:
        client.close()
    click.echo(tag)


@image.command()
def tag() -> None:
    """Print the name that the sandbox image has, or will have."""
    from rlm_kernel.sandbox.image import image_tag  # noqa: PLC0415 - as above

    click.echo(image_tag())


cli.add_command(gc)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    raise_on_signals()
    try:
        status = _status(given)
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes standard output once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = exits.BROKEN_PIPE
    sys.exit(status)


def _status(arguments: list[str]) -> int:
    try:
        with cli.make_context("rlm-kernel", arguments) as context:
            return cli.invoke(context) or 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return exits.USAGE
    except BrokenPipeError:
        raise
    except BaseException as error:  # noqa: BLE001 - the outermost edge: every failure becomes a message and a status
        return write_error(error, as_json="--json" in arguments)
