"""What happened, in words: each event that is neither a cell nor a call as a sentence, each call as a line."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import singledispatch

from rlm_kernel import events as ev
from rlm_kernel.export.text import one_line
from rlm_kernel.types import JSON, Origin, Usage

STATUSES = {
    "ok": "ended",
    "error": "raised an error",
    "timed_out": "was stopped at its time limit",
    "interrupted": "was interrupted",
    "kernel_died": "lost its kernel",
}
_ORIGINS = {
    "stored": "stored answer of",
    "joined": "shared with the same call of",
    "recorded": "from the recording of",
}
_MOST_NAMES = 50


def instant(at: float) -> str:
    """Return UTC in seconds as Jupyter writes times."""
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return "1970-01-01T00:00:00.000000Z"  # no time at all: only a made-up recording has one


def duration(seconds: float | None) -> str:
    """Return a duration in words."""
    if seconds is None:
        return ""
    return f"{seconds:.3f} s" if seconds < 1 else f"{seconds:,.1f} s"


def dollars(cost: float | None) -> str:
    """Return a cost in words; no sign that a notebook would take for mathematics."""
    return "cost unknown" if cost is None else f"USD {cost:.6f}".rstrip("0").rstrip(".")


def used(usage: Usage) -> list[str]:
    """Return tokens and cost in words; nothing where no token was used."""
    if not usage.total_tokens:
        return []
    cached = f" ({usage.cached_input_tokens:,} cached)" if usage.cached_input_tokens else ""
    return [f"{usage.input_tokens:,} tokens in{cached}, {usage.output_tokens:,} out", dollars(usage.cost_usd)]


def from_where(cached: Origin | None) -> list[str]:
    """Say whose answer it is where no model was asked."""
    return (
        [] if cached is None else [f"{_ORIGINS[cached.how]} {one_line(cached.run)[:100]}, {one_line(cached.at)[:40]}"]
    )


def reply_facts(reply: ev.ModelReplied | ev.SubcallReplied) -> list[str]:
    """Return what a model's reply took."""
    attempts = [f"{reply.attempts} attempts"] if reply.attempts > 1 else []
    ended = [] if reply.finish_reason == "stop" else [f"ended: {one_line(reply.finish_reason)[:40]}"]
    return [*from_where(reply.cached), duration(reply.seconds), *used(reply.usage), *attempts, *ended]


def thinking(reasoning: JSON) -> str:
    """Return what can be read of a provider's reasoning: its texts and summaries, in order, wherever they lie."""
    found: list[str] = []
    left: list[tuple[str, JSON]] = [("", reasoning)]
    while left:
        name, value = left.pop()
        if isinstance(value, str):
            if name in ("reasoning", "reasoning_content", "thinking", "text", "summary") and value.strip():
                found.append(value)
        elif isinstance(value, list):
            left += [(name, item) for item in reversed(value)]
        elif isinstance(value, dict) and value.get("type") not in ("text", "tool_use"):
            left += [(key, item) for key, item in reversed(value.items())]
    return "\n\n".join(dict.fromkeys(found))


@singledispatch
def told(event: ev.Event) -> str | None:
    """Return an event as a sentence, None if a reader of the run need not know."""
    return None


@told.register
def _(event: ev.Notice) -> str:
    return event.message


@told.register(ev.BudgetWarning)
@told.register(ev.BudgetSpent)
def _(event: ev.BudgetWarning | ev.BudgetSpent) -> str:
    return f"Budget: {event.message}"


@told.register
def _(event: ev.ModelRetried) -> str:
    return f"Attempt {event.attempt} of {event.call} failed with {event.error}: {event.message}; the next one came " + (
        f"after {event.wait:.1f} s."
    )


@told.register
def _(event: ev.KernelReady) -> str | None:
    if event.generation == 1:
        return None
    return f"Kernel {event.generation} is ready." + (" The files that cells had written are gone." * event.emptied)


@told.register
def _(event: ev.KernelLost) -> str:
    gone = f" These variables are gone: {_names(event.lost)}." if event.lost else ""
    return f"Kernel {event.generation} was lost: {event.reason}.{gone}"


@told.register
def _(event: ev.KernelRebuilt) -> str:
    failed = f" Not all was run again: {event.failed}." if event.failed else ""
    cells = f"{len(event.cells):,} cells were run again in kernel {event.generation}, in {duration(event.seconds)}."
    return f"{cells} These variables are back: {_names(event.names)}.{failed}"


@told.register
def _(event: ev.SandboxStarted) -> str:
    return f"Another container took the place of one that was lost (image {event.image_id})."


@told.register
def _(event: ev.ProfileChosen) -> str:
    how = "calls of a tool" if event.tools else "code in fences"
    return f"The model is led by the profile {event.name} ({event.source}) and asked for {how}."


@told.register
def _(event: ev.HistoryCompacted) -> str:
    who = "the model's own summary" if event.by_model else "a list of what was done"
    return (
        f"The conversation had about {event.tokens:,} tokens: {event.removed} messages were taken out of it, and "
        f"{who} stands for them."
    )


@told.register
def _(event: ev.WentLive) -> str:
    differences = f" Different from then: {'; '.join(event.differences)}." if event.differences else ""
    return (
        f"Up to here {event.cells} cells ran again with {event.answers} recorded answers, in "
        f"{duration(event.seconds)}; from here on models are asked.{differences}"
    )


@told.register
def _(event: ev.AnswerRejected) -> str:
    return f"An answer was sent back, as it does not fit the schema: {event.problem}"


@told.register
def _(event: ev.CellInterrupted) -> str:
    why = {"timed_out": "its time limit", "stopped": "a stop", "budget": "the budget"}[event.reason]
    return f"After {duration(event.seconds)} the cell was to end because of {why} ({event.step})."


@told.register
def _(event: ev.ContextChunked) -> str:
    return (
        f"chunk() cut {event.characters:,} characters into {event.chunks:,} pieces of {event.shortest:,} to "
        f"{event.longest:,} ({event.strategy})."
    )


@told.register
def _(event: ev.SubcallRefused) -> str:
    return f"The sub-call {event.call} was not taken: {event.reason}. Its prompt began: {event.prompt[:200]}"


@told.register
def _(event: ev.ToolRefused) -> str:
    return f"The call {event.call} of the tool {event.tool} was not taken: {event.reason}."


@told.register
def _(event: ev.CellFinished) -> str | None:
    said = []
    if event.status not in ("ok", "error"):
        said.append(f"The cell {STATUSES[event.status]}{f': {event.evalue}' if event.evalue else ''}.")
    if event.cut:
        said.append(f"The sandbox left out about {event.cut:,} bytes of its output.")
    return " ".join(said) or None


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
