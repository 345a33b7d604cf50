"""The call tree of a run as lines of text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click
import msgspec

from rlm_kernel.cli.figures import OUTCOMES, cost, count, took
from rlm_kernel.cli.text import one_line
from rlm_kernel.recording.calls import Sums
from rlm_kernel.recording.tree import Branch

LONGEST = 80
SHARE = 0.1
"""A smaller share of the whole is not told."""
_BAD = ("failed", "error", "timed_out", "interrupted", "kernel_died", "cancelled", "broken-off")
_CALLS = {"llm": ("sub-call", "to"), "rlm": ("session", "of"), "tool": ("call", "of"), "model": ("request", "to")}
_WORDS = {"broken-off": "broken off", "open": "without an end"} | OUTCOMES


def plural(number: int, word: str) -> str:
    """Return a number of things in words."""
    return f"{number} {word}{'' if number == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class Whole:
    """What shares are of: the whole run's cost, or its time where that cost nothing or what is not known."""

    cost: float
    seconds: float

    @classmethod
    def of(cls, branch: Branch) -> Whole:
        """Return what `branch` took."""
        return cls(branch.sums.usage.cost_usd or 0.0, branch.seconds or 0.0)

    def share(self, branch: Branch) -> str:
        """Return the share of `branch` in words; nothing where it does not matter."""
        usage = branch.sums.usage
        if self.cost and usage.cost_usd is not None:
            share, of = usage.cost_usd / self.cost, "cost"
        elif self.seconds and branch.seconds is not None:
            share, of = branch.seconds / self.seconds, "time"
        else:
            return ""
        return f"{share:.0%} of the {of}" if share >= SHARE else ""


def tree_lines(branch: Branch, whole: Whole | None = None, indent: str = "", *, root: bool = True) -> Iterator[str]:
    """Yield a line for each branch, cleaned for a terminal, what failed in red."""
    whole = whole or Whole.of(branch)
    if root:
        yield _line(branch, None)
    for below in branch.below:
        last = below is branch.below[-1]
        yield f"{indent}{'└─' if last else '├─'} {_line(below, whole)}"
        yield from tree_lines(below, whole, f"{indent}{'   ' if last else '│  '}", root=False)


def _line(branch: Branch, whole: Whole | None) -> str:
    parts = [_title(branch), *_state(branch), *_time(branch), *_sums(branch)]
    if whole is not None and (share := whole.share(branch)):
        parts.append(share)
    line = " · ".join(part for part in parts if part)
    return click.style(line, fg="red") if branch.status in _BAD else line


def _title(branch: Branch) -> str:
    text = one_line(branch.text, LONGEST)
    match branch.kind:
        case "session":
            return f"session {one_line(branch.name, LONGEST)}" if branch.name else "run"
        case "question" | "turn" | "cell" if branch.count > 1:
            return f"{branch.kind}s {branch.name} to {branch.until}"
        case "question":
            return f"question {branch.name}: {text}"
        case "turn" | "cell":
            return f"{branch.kind} {branch.name}"
        case kind:
            word, between = _CALLS[kind]
            if branch.count > 1:
                return f"{plural(branch.count, word)} {between} {text}"
            return f"{one_line(branch.name, LONGEST)} {word} {between} {text}"


def _state(branch: Branch) -> Iterator[str]:
    if branch.status and branch.status != "ok":
        yield _WORDS.get(branch.status, branch.status)
    elif branch.kind == "cell" and branch.count == 1:
        yield "ok"
    if branch.kind in ("session", "cell") and branch.text:
        yield one_line(branch.text, LONGEST)


def _time(branch: Branch) -> Iterator[str]:
    if branch.middle is not None:
        yield f"median {took(branch.middle)}"
    elif branch.seconds is not None:
        asking = f" (model {took(branch.asking)})" if branch.asking else ""
        yield f"{took(branch.seconds)}{asking}"


def _sums(branch: Branch) -> Iterator[str]:
    sums, usage = branch.sums, branch.sums.usage
    one = branch.count == 1 and branch.kind in ("llm", "rlm", "tool", "model")
    if branch.kind in ("session", "question", "turn", "cell"):
        calls = sums.subcalls - branch.answers
        if calls:
            yield plural(calls, "sub-call")
        if sums.tools:
            yield plural(sums.tools, "tool call")
    if sums.failed and not one:
        yield click.style(f"{sums.failed} failed", fg="red")
    if sums.cached:
        yield "not asked again" if one else f"{sums.cached} not asked again"
    if sums.open and not one:
        yield f"{sums.open} without an end"
    if usage.total_tokens:
        yield f"{count(usage.input_tokens)} in, {count(usage.output_tokens)} out"
        yield cost(usage.cost_usd)


def branch_json(branch: Branch) -> dict[str, Any]:
    """Return a branch as JSON, those below it too."""
    return {
        "kind": branch.kind,
        "name": branch.name,
        "until": branch.until or None,
        "text": branch.text,
        "status": branch.status,
        "count": branch.count,
        "seconds": branch.seconds,
        "median_seconds": branch.middle,
        **sums_json(branch.sums),
        "below": [branch_json(below) for below in branch.below],
    }


def sums_json(sums: Sums) -> dict[str, Any]:
    """Return what calls took, as JSON."""
    return {
        "model_requests": sums.asked,
        "subcalls": sums.subcalls,
        "tool_calls": sums.tools,
        "failed": sums.failed,
        "not_asked_again": sums.cached,
        "without_end": sums.open,
        "usage": {model: msgspec.to_builtins(usage) for model, usage in sums.by_model.items()},
    }
