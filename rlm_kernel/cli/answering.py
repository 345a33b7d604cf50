"""From a question on the command line to an answer that is written."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from gc import freeze
from typing import TYPE_CHECKING, Any

import click

from rlm_kernel.cli.contexts import store_sources
from rlm_kernel.cli.options import Output
from rlm_kernel.cli.outcome import write_answer, write_result_json, write_summary
from rlm_kernel.config import Settings
from rlm_kernel.types import JSON

if TYPE_CHECKING:
    from rlm_kernel.assembly import RunResult

NO_CONTEXT = "there is no context: give --context PATH, or pipe it in"


def answer(
    question: str,
    sources: Sequence[str],
    settings: Settings,
    output: Output,
    *,
    skip_binary: bool = False,
    schema: dict[str, JSON] | None = None,
) -> RunResult[Any]:
    """Store the contexts that `sources` name, run one session with its progress shown, and write the result.

    Without any the context is standard input. Raise `UsageError` if nothing is there.
    """
    from rlm_kernel.assembly import RLM  # noqa: PLC0415 - its imports take too long for `--help`
    from rlm_kernel.assembly.asked import Asked  # noqa: PLC0415 - as above

    Asked.of(question, schema)  # like a missing key, a wrong schema is told before a long context is read
    asyncio.run(check_models(settings))
    # A collection of all that was imported takes 0.1 s and more, and would come every few hundred sub-calls.
    freeze()
    stored = store_sources(sources or ("-",), settings, skip_binary=skip_binary)
    if not sources and not any(part.size for part in stored.parts):
        raise click.UsageError(NO_CONTEXT)
    progress = output.progress()
    with RLM(settings=settings, on_event=progress, on_text=progress.listener) as rlm:
        with progress:
            result = rlm.completion(question, stored, answer_type=schema)
        write(result, output)  # while the container goes
    return result


async def check_models(settings: Settings) -> None:
    """Fail for an unknown model or a missing key before a long context is read."""
    from rlm_kernel.assembly.models import Models  # noqa: PLC0415 - as above

    async with Models.open(settings):
        pass


def write(result: RunResult[Any], output: Output) -> None:
    """Write a run's result as `output` wants it."""
    if output.as_json:
        write_result_json(result)
        return
    if not output.quiet:
        write_summary(result)
    write_answer(result)
