"""What a recording says of its run beside the call tree, as JSON that is shown and compared."""

from __future__ import annotations

from typing import Any

import msgspec

from rlm_kernel.config import Settings
from rlm_kernel.errors import RecordingDamaged
from rlm_kernel.events import AnswerGiven, QuestionAsked, QuestionFailed, RunFinished, SandboxStarted
from rlm_kernel.recording import Recording
from rlm_kernel.recording.calls import Sums, plausible
from rlm_kernel.recording.folder import is_run_id
from rlm_kernel.recording.index import Question
from rlm_kernel.recording.liveness import is_written
from rlm_kernel.types import JSON

Facts = dict[str, Any]
_PLACES = ("state_dir", "profiles_dir")


def facts(recording: Recording, sums: Sums) -> Facts:
    """Return what a run was and what it came to; `sums` are those of its whole tree. Raise `RecordingDamaged`."""
    started, finished = recording.started, recording.finished
    if finished is not None and not plausible(finished.seconds, *finished.usage.values()):
        raise RecordingDamaged(f"{recording.path}: its last record has numbers that can't be")
    seconds = finished.seconds if finished is not None else max(0.0, recording.last_at - recording.first_at)
    return {
        "run": run_of(recording),
        "recording": str(recording.path),
        "status": finished.status if finished else "running" if is_written(recording.path) else "broken-off",
        "problem": f"{finished.error}: {finished.message or ''}" if finished and finished.error else None,
        "at": recording.first_at,
        "seconds": seconds,
        "model": started.model,
        "sub_model": started.sub_model,
        "package_version": started.package_version,
        "python_version": started.python_version,
        "schema": recording.version,
        "records": len(recording),
        "head": recording.head,
        "damage": recording.damage,
        "torn_bytes": recording.torn,
        "unknown_events": recording.unknown,
        "sandbox": _sandbox(recording),
        "contexts": [msgspec.to_builtins(context) for context in recording.contexts()],
        "settings": changed_settings(started.settings),
        "limits": _limits(started.settings, sums, seconds, finished, recording),
        "questions": [_question(recording, question) for question in recording.root.questions],
        "origin": msgspec.to_builtins(started.origin),
        "usage": {
            name: msgspec.to_builtins(used) for name, used in (finished.usage if finished else sums.by_model).items()
        },
    }


def run_of(recording: Recording) -> str:
    """Return the run's id: its folder's name, or what the recording says where that is none."""
    name = recording.path.absolute().parent.name
    return name if is_run_id(name) else recording.started.run


def changed_settings(settings: dict[str, JSON]) -> dict[str, JSON]:
    """Return the settings that this package knows and that have not its default, places on this machine aside."""
    return {
        name: settings[name]
        for name, default in Settings().as_json().items()
        if name in settings and name not in _PLACES and settings[name] != default
    }


def _sandbox(recording: Recording) -> dict[str, Any] | None:
    """Return the first container's image and runtime; a later one takes its place with the same."""
    if not recording.root.sandboxes:
        return None
    event = recording.expect(recording.root.sandboxes[0], SandboxStarted)
    named = {name: getattr(event, name) for name in ("engine", "oci_runtime", "image", "image_id", "seed", "packages")}
    return named | {"containers": len(recording.root.sandboxes)}


def _limits(
    settings: dict[str, JSON], sums: Sums, seconds: float, finished: RunFinished | None, recording: Recording
) -> list[dict[str, Any]]:
    """Return each limit of the whole run that was set, and what of it was used."""
    origin, usage = recording.started.origin, sums.usage
    if origin is not None and not plausible(origin.seconds, *origin.usage.values()):
        raise RecordingDamaged(f"{recording.path}: its first record has numbers that can't be")
    if origin is not None and origin.how == "resume":  # it began with what was used before
        usage, seconds = sum(origin.usage.values(), usage), seconds + origin.seconds
    turns = finished.turns if finished else sum(len(question.turns) for question in recording.root.questions)
    used = {
        "max_turns": turns,
        "max_subcalls": sums.subcalls,
        "max_tool_calls": sums.tools,
        "max_input_tokens": usage.input_tokens,
        "max_output_tokens": usage.output_tokens,
        "max_total_tokens": usage.total_tokens,
        "max_cost": usage.cost_usd,
        "run_timeout": seconds,
    }
    return [
        {"limit": name, "allowed": allowed, "used": amount}
        for name, amount in used.items()
        if isinstance(allowed := settings.get(name), int | float)
    ]


def _question(recording: Recording, question: Question) -> dict[str, Any]:
    told = {
        "ask": question.number,
        "question": recording.expect(question.asked, QuestionAsked).question,
        "turns": len(question.turns),
        "status": None,
        "answer": None,
        "problem": None,
    }
    if question.ended is not None:
        match recording.event(question.ended):
            case AnswerGiven(answer=answer, reason=reason):
                told |= {"status": "partial" if reason else "answered", "answer": answer, "problem": reason}
            case QuestionFailed(error=error, message=message):
                told |= {"status": "failed", "problem": f"{error}: {message}"}
            case _:
                pass
    return told
