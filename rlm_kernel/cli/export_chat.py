"""`rlm-kernel export --to chat`: training data, of one run or of many."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rlm_kernel.cli.text import clean
from rlm_kernel.errors import RecordingDamaged

if TYPE_CHECKING:
    from rlm_kernel.export.chat import Level

LEVELS: tuple[Level, ...] = ("root", "sub", "all")
OUTCOMES = ("answered", "partial", "failed", "cancelled", "running", "broken-off")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be written: which `level`, and questions that ended so (`outcomes`)."""

    level: Level
    outcomes: Sequence[str]
    output: str
    force: bool


def write_chat(recordings: Iterable[Path], asked: Wanted) -> None:
    """Write the file, its name to standard output and a word on it to standard error.

    Raise `ConfigError`, and `RecordingDamaged` if a recording was not read to its end.
    """
    from rlm_kernel.export.chat import Chosen  # noqa: PLC0415 - its imports take too long for `--help`
    from rlm_kernel.export.chat_file import export_chat  # noqa: PLC0415

    target = sys.stdout.buffer if asked.output == "-" else asked.output
    chosen = Chosen(level=asked.level, outcomes=frozenset(asked.outcomes))
    exported = export_chat(recordings, target, chosen, force=asked.force)
    for problem in exported.problems:
        click.echo(f"rlm-kernel: {clean(problem)}", err=True)
    lines, runs = exported.lines, exported.runs
    click.echo(f"{lines:,} conversation{'s' * (lines != 1)} of {runs:,} run{'s' * (runs != 1)}", err=True)
    if exported.path is not None:
        click.echo(clean(str(exported.path)))
    if exported.problems:
        raise RecordingDamaged(f"{len(exported.problems)} recordings were not read to their end; see above")
