"""Recorded runs that run again, and what has to be the same then."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlm_kernel import Settings
from rlm_kernel.assembly import Context
from rlm_kernel.assembly.kept import Kept
from rlm_kernel.assembly.rerun.rerun import Plan, Rerun, rerun
from rlm_kernel.assembly.sinks import Listeners
from rlm_kernel.events import (
    AnswerGiven,
    BudgetSpent,
    CellFinished,
    CellOutput,
    CellStarted,
    ModelFailed,
    ModelReplied,
    ModelRequested,
    QuestionAsked,
    QuestionFailed,
    SubcallFailed,
    SubcallReplied,
    ToolFailed,
    ToolReplied,
)
from rlm_kernel.recording import EVENTS_FILE, Recording, read_events

REPLAY = Plan(how="replay")


async def run_again(
    settings: Settings,
    path: Path,
    context: Context,
    plan: Plan = REPLAY,
    tools: Iterable[Callable[..., Any]] = (),
) -> Rerun:
    """Run the recording at `path` again; it is kept."""
    kept = Kept(settings, tools)
    try:
        with Recording(path / EVENTS_FILE if path.is_dir() else path) as recording:
            return await rerun(kept, recording, context, plan, Listeners())
    finally:
        await kept.aclose()


def without_models(settings: Settings) -> Settings:
    """Return settings whose models there are not: nothing may ask them."""
    return replace(settings, model="scripted:/nowhere/root.md", sub_model="scripted:/nowhere/sub.md")


def told(folder: Path, nodes: dict[str, str] | None = None) -> dict[str, list[Any]]:
    """Return what a recording tells that does not hang on time, by session; `nodes` are their names in another one."""
    found: dict[str, list[Any]] = {}
    for record in read_events(folder / EVENTS_FILE if folder.is_dir() else folder):
        node = record.node if nodes is None else nodes[record.node]
        if (line := _line(record.event)) is not None:
            # What a cell shows and what its calls are told come on ways of their own.
            lines = found.setdefault(f"{node} calls" if isinstance(record.event, _OF_CALLS) else node, [])
            if lines and line[0] == lines[-1][0] == "text":
                lines[-1] = ("text", lines[-1][1], lines[-1][2] + line[2])
            else:
                lines.append(line)
    return found


_OF_CALLS = (SubcallReplied, SubcallFailed, ToolReplied, ToolFailed)
_TOLD: dict[type, tuple[str, ...]] = {
    QuestionAsked: ("question", "schema"),
    ModelRequested: ("model", "history", "messages"),
    ModelReplied: ("text", "finish_reason"),
    ModelFailed: ("error", "message"),
    CellStarted: ("cell", "turn", "code"),
    CellFinished: ("cell", "status", "ename", "evalue", "final", "final_source"),
    SubcallReplied: ("text", "note"),
    SubcallFailed: ("code", "error", "told"),
    ToolReplied: ("result",),
    ToolFailed: ("code", "error", "told"),
    BudgetSpent: ("limit", "message"),
    AnswerGiven: ("answer", "source", "reason"),
    QuestionFailed: ("error", "message"),
}


def _line(event: Any) -> tuple[Any, ...] | None:
    if isinstance(event, CellOutput):
        output = event.output
        if output["output_type"] == "stream":
            return "text", output["name"], output["text"]
        return "output", {name: value for name, value in output.items() if name != "traceback"}
    fields = _TOLD.get(type(event))
    return None if fields is None else (type(event).__name__, *(getattr(event, name) for name in fields))
