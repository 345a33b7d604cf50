"""What a recorded run used, and the runs that it goes on from: what a run that resumes it begins with."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from rlm_kernel.events import (
    KernelReady,
    ModelFailed,
    ModelReplied,
    ModelRequested,
    ModelRetried,
    SubcallFailed,
    SubcallReplied,
    SubcallRequested,
    WentLive,
)
from rlm_kernel.recording.index import Recording
from rlm_kernel.types import Usage


@dataclass(slots=True)
class Used:
    """`usage` per model name, failed attempts included, the sub-calls that were made, and the seconds of work."""

    usage: dict[str, Usage] = field(default_factory=dict)
    subcalls: int = 0
    seconds: float = 0.0

    @property
    def total(self) -> Usage:
        """What all models used."""
        return sum(self.usage.values(), Usage())

    def add(self, model: str, usage: Usage | None) -> None:
        """Count `usage` of a model."""
        if usage is not None:
            self.usage[model] = self.usage.get(model, Usage()) + usage


def used_by(recording: Recording) -> Used:
    """Return what a run used, its sessions below too; an answer from a recording or a store is nobody's use.

    It is read from begin to end, one record at a time. A call that was under way at the end does not count: nobody
    knows what it used, and it will be made again.
    """
    used = _before(recording)
    models: dict[tuple[str, str], str] = {}
    for record in recording.records():
        event = record.event
        if isinstance(event, ModelRequested | SubcallRequested):
            models[record.node, event.call] = event.model
            continue
        if not isinstance(event, ModelReplied | ModelFailed | ModelRetried | SubcallReplied | SubcallFailed):
            continue
        model = models.get((record.node, event.call))
        if model is None:
            continue
        used.add(model, event.usage)
        recorded = isinstance(event, SubcallReplied) and event.cached is not None and event.cached.how == "recorded"
        used.subcalls += isinstance(event, SubcallReplied | SubcallFailed) and not recorded
        if not isinstance(event, ModelRetried):
            del models[record.node, event.call]
    used.seconds += max(0.0, _worked(recording) - _ran_again(recording))
    return used


def _before(recording: Recording) -> Used:
    origin = recording.started.origin
    if origin is None or origin.how != "resume":
        return Used()
    return Used(usage={**origin.usage}, subcalls=max(0, origin.subcalls), seconds=max(0.0, origin.seconds))


def _worked(recording: Recording) -> float:
    """Return the seconds in which the run's own session opened and answered; between questions nobody works."""
    first = next((seq for seq in recording.root.others if isinstance(recording.event(seq), KernelReady)), None)
    spans = [(recording.first_at, recording.last_at if first is None else _at(recording, first))]
    for question in recording.root.questions:
        ended = recording.last_at if question.ended is None else _at(recording, question.ended)
        spans.append((_at(recording, question.asked), ended))
    return sum(max(0.0, end - begin) for begin, end in spans)


def _ran_again(recording: Recording) -> float:
    """Return the seconds in which a resumed run only did again what those before it had done."""
    origin = recording.started.origin
    if origin is None or origin.how != "resume":
        return 0.0
    told = (recording.event(seq) for seq in recording.root.others)
    live = next((event for event in told if isinstance(event, WentLive)), None)
    return _worked(recording) if live is None else max(0.0, live.seconds)


class _When(msgspec.Struct, frozen=True):
    at: float


_WHEN = msgspec.json.Decoder(_When)


def _at(recording: Recording, seq: int) -> float:
    return recording.part(seq, _WHEN).at
