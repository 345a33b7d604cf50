"""What a command writes at its end: an answer or an error, for people or as JSON."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from rlm_kernel.cli import exits
from rlm_kernel.cli.figures import clock_time, used
from rlm_kernel.cli.running import Terminated
from rlm_kernel.cli.text import clean
from rlm_kernel.config import DEBUG_VARIABLE
from rlm_kernel.errors import NodeFailed, RlmKernelError
from rlm_kernel.types import Usage

if TYPE_CHECKING:
    from rlm_kernel.assembly import RunResult


def write_answer(result: RunResult[Any]) -> None:
    """Write the answer to standard output: cleaned for a terminal, else exactly as it is."""
    answer = clean(result.answer) if sys.stdout.isatty() else result.answer
    _write(answer)


def write_result_json(result: RunResult[Any]) -> None:
    """Write one JSON object to standard output."""
    _write(json.dumps(as_json(result)))


def as_json(result: RunResult[str]) -> dict[str, Any]:
    """Return a result's fields."""
    return {
        "answer": result.answer,
        **({} if result.value is result.answer else {"value": result.value}),
        "status": result.status,
        "reason": result.reason,
        "run": result.run,
        "recording": str(result.recording) if result.recording.exists() else None,
        "head": result.head,
        "usage": _builtins(result.usage),
        "cost_usd": result.cost_usd,
        **({"before": _builtins(result.before), "total_cost_usd": result.total_cost_usd} if result.before else {}),
        "seconds": round(result.seconds, 3),
        "turns": result.turns,
    }


def _builtins(usage: Mapping[str, Usage]) -> dict[str, Any]:
    return {name: msgspec.to_builtins(used) for name, used in usage.items()}


def write_summary(result: RunResult[Any]) -> None:
    """Write what the run took, and where its recording is, to standard error."""
    total = sum(result.usage.values(), Usage())
    turns = f"{result.turns} turn{'s' if result.turns != 1 else ''}"
    lines = [" · ".join([turns, *used(total), clock_time(result.seconds)])]
    if result.before:
        lines.append(" · ".join(["before it was resumed", *used(sum(result.before.values(), Usage()))]))
    if result.recording.exists():
        lines.append(f"recording: {result.recording}")
    if result.status == "partial":
        lines.insert(0, f"{result.reason} This is the best answer so far.")
    click.echo("\n".join(lines), err=True)


def write_error(error: BaseException, *, as_json: bool) -> int:
    """Write what went wrong, to standard error or as JSON to standard output, and return the exit status."""
    kind, message, status = described(error)
    if as_json:
        _write(json.dumps({"error": kind, "message": message, "exit_status": status}))
    else:
        _say(f"rlm-kernel: {clean(message)}")
    if os.environ.get(DEBUG_VARIABLE) == "1":
        _say(clean("".join(traceback.format_exception(error)).rstrip()))
    return status


def described(error: BaseException) -> tuple[str, str, int]:
    """Return an error's kind, message and exit status."""
    kind = type(error).__name__
    match error:
        case NodeFailed():
            return type(error.cause).__name__, str(error), exits.status_of(error)
        case RlmKernelError():
            return kind, str(error) or kind, exits.status_of(error)
        case click.ClickException():
            return kind, _usage_message(error), exits.USAGE
        case KeyboardInterrupt() | click.Abort():
            return "Interrupted", "interrupted", exits.INTERRUPTED
        case Terminated():
            status = exits.HUNG_UP if error.number is signal.SIGHUP else exits.TERMINATED
            return kind, f"ended by {error.number.name}", status
    return (
        kind,
        f"an unexpected {kind}: {error}\nThis is a bug. Please report it with the output of the same command "
        f"and {DEBUG_VARIABLE}=1.",
        exits.UNEXPECTED,
    )


def _usage_message(error: click.ClickException) -> str:
    message = error.format_message()
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{message}\nTry '{error.ctx.command_path} --help'."
    return message


def _say(text: str) -> None:
    """Write to standard error, if it is still there: a terminal that was closed is no reason to lose the status."""
    try:
        click.echo(text, err=True)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        # What is still pending would fail once more at the process's end, and change its status.
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), sys.stderr.fileno())


def _write(text: str) -> None:
    """Write to standard output whatever `text` holds, halves of characters too."""
    click.echo(text.encode("utf-8", "backslashreplace"))
