"""What the calls of a recording took: time, tokens and cost of each, and sums of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import msgspec

from rlm_kernel.errors import RecordingDamaged
from rlm_kernel.recording.index import Call, CallKind, Node, Recording, RootCall
from rlm_kernel.types import Origin, Usage

ByModel: TypeAlias = dict[str, Usage]
CallState = Literal["ok", "failed", "open"]
Kind: TypeAlias = CallKind | Literal["model"]
"""`model` is a request to a root model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFigures:
    """One call of a model or a tool; `label` is the model's or the tool's name.

    `usage` is that of all its attempts, and of nothing for an answer that nobody was asked for (`cached`). `open`: it
    has no end, as the run was broken off or goes on. `problem` is why it failed.
    """

    name: str
    kind: Kind
    label: str
    state: CallState
    seconds: float | None
    usage: Usage
    cached: bool = False
    problem: str = ""


class _Event(msgspec.Struct, frozen=True):
    type: str = ""
    call: str = ""
    model: str = ""
    tool: str = ""
    seconds: float | None = None
    usage: Usage | None = None
    cached: Origin | None = None
    error: str | None = None
    message: str | None = None


class _Line(msgspec.Struct, frozen=True):
    event: _Event


_LINE = msgspec.json.Decoder(_Line)
_MOST = 1e11
_RETRIES = b'"type":"ModelRetried"'


class Calls:
    """The figures of a recording's calls, each read when it is asked for; only what retries used is held."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._retries: dict[str, dict[str, Usage]] = {}

    def of(self, node: Node, call: Call) -> CallFigures:
        """Return the figures of a cell's call. Raise `RecordingDamaged`."""
        return self._figures(node, call, call.kind)

    def asked(self, node: Node, asked: RootCall) -> CallFigures:
        """Return the figures of a request to the root model. Raise `RecordingDamaged`."""
        return self._figures(node, asked, "model")

    def _figures(self, node: Node, call: Call | RootCall, kind: Kind) -> CallFigures:
        requested = self._event(call.requested)
        ended = None if call.ended is None else self._event(call.ended)
        usage = self._retried(node).get(call.name, Usage())
        if ended is not None and ended.usage is not None:
            usage += ended.usage
        failed = ended is not None and ended.type.endswith("Failed")
        return CallFigures(
            name=call.name,
            kind=kind,
            label=requested.model or requested.tool,
            state="open" if ended is None else "failed" if failed else "ok",
            seconds=None if ended is None else ended.seconds,
            usage=usage,
            cached=ended is not None and ended.cached is not None,
            problem=f"{ended.error}: {ended.message or ''}" if failed and ended is not None else "",
        )

    def _retried(self, node: Node) -> dict[str, Usage]:
        """Return what the attempts used that were followed by another one, by call."""
        if (known := self._retries.get(node.path)) is not None:
            return known
        found = self._retries[node.path] = {}
        for seq in node.others:
            line = self._recording.line(seq)
            if _RETRIES not in line[:200]:
                continue
            event = self._decoded(line, seq)
            if event.usage is not None:
                found[event.call] = found.get(event.call, Usage()) + event.usage
        return found

    def _event(self, seq: int) -> _Event:
        return self._decoded(self._recording.line(seq), seq)

    def _decoded(self, line: bytes, seq: int) -> _Event:
        try:
            event = _LINE.decode(line).event
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RecordingDamaged(f"{self._recording.path}, line {seq + 1}: not a record: {error}") from error
        if not plausible(event.seconds, event.usage):
            raise RecordingDamaged(f"{self._recording.path}, line {seq + 1}: it has numbers that can't be")
        return event


def plausible(seconds: float | None, *usages: Usage | None) -> bool:
    """Tell whether a time and usages can be real, and can be added up and shown."""
    if seconds is not None and not 0 <= seconds <= _MOST:
        return False
    numbers = (number for usage in usages if usage is not None for number in msgspec.structs.astuple(usage))
    return all(number is None or 0 <= number <= _MOST for number in numbers)


@dataclass(slots=True)
class Sums:
    """What several calls took together: how many of them there are, by kind and by how they ended, and their usage."""

    asked: int = 0
    subcalls: int = 0
    tools: int = 0
    failed: int = 0
    cached: int = 0
    open: int = 0
    by_model: ByModel = field(default_factory=dict)

    @property
    def usage(self) -> Usage:
        """What all models used."""
        return sum(self.by_model.values(), Usage())

    def add(self, figures: CallFigures) -> None:
        """Count one call."""
        self.asked += figures.kind == "model"
        self.subcalls += figures.kind in ("llm", "rlm")
        self.tools += figures.kind == "tool"
        self.failed += figures.state == "failed"
        self.cached += figures.cached
        self.open += figures.state == "open"
        if figures.usage != Usage():
            self.by_model[figures.label] = self.by_model.get(figures.label, Usage()) + figures.usage

    def __iadd__(self, other: Sums) -> Sums:
        for name in ("asked", "subcalls", "tools", "failed", "cached", "open"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for model, usage in other.by_model.items():
            self.by_model[model] = self.by_model.get(model, Usage()) + usage
        return self
