"""Events of a run as a whole: its beginning, its context, its answer and its end."""

from __future__ import annotations

from typing import Literal

import msgspec

from rlm_kernel.events.base import Event
from rlm_kernel.types import JSON, Usage

RunStatus = Literal["answered", "partial", "failed", "cancelled"]
AnswerSource = Literal["FINAL", "FINAL_VAR", "answer", "reply", "last_request"]


class RunOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """The recorded run that a run goes on from, or replays: `how`.

    `records` of it were taken over, `head` is SHA-256 of the last of them, and `turn` the last turn of those (None for
    all).

    A resumed run counts what was used before it, by all the runs that it goes on from: `usage` per model name,
    `subcalls`, and `seconds` of work. Elsewhere they are nothing.
    """

    how: Literal["replay", "resume", "fork"]
    run: str
    records: int
    head: str
    turn: int | None = None
    usage: dict[str, Usage] = msgspec.field(default_factory=dict)
    subcalls: int = 0
    seconds: float = 0.0


class RunStarted(Event, frozen=True, kw_only=True):
    """The first event of every run. `settings` holds the resolved configuration, without secrets.

    `platform` is the host's system, such as `Linux-6.1.0-x86_64-with-glibc2.36`.

    `origin` is there for a run that goes on from another one's recording: see `WentLive`.
    """

    run: str
    question: str
    model: str
    sub_model: str
    package_version: str
    python_version: str
    parent_run: str | None = None
    depth: int = 0
    settings: dict[str, JSON] = msgspec.field(default_factory=dict)
    tools: list[dict[str, JSON]] = msgspec.field(default_factory=list)
    origin: RunOrigin | None = None
    platform: str = ""


class ContextStored(Event, frozen=True, kw_only=True):
    """A context is in the content store. `digest` is SHA-256 of its bytes, `size` is in bytes, `name` is a variable."""

    digest: str
    kind: Literal["str", "files", "json", "image"]
    size: int
    source: str
    index_digest: str | None = None
    name: str = "context"


class WentLive(Event, frozen=True, kw_only=True):
    """The recording that this session goes on from is used up: models are asked from here on.

    Until here `cells` ran again and `answers` of models and tools were the recorded ones. `differences` say which
    cells' outputs or ends are not what they were, `seconds` how long it took.
    """

    turn: int
    cells: int
    answers: int
    seconds: float
    differences: list[str] = msgspec.field(default_factory=list)


class AnswerGiven(Event, frozen=True, kw_only=True):
    """A question, the run's only one or one of a session's, has its answer.

    `reason`: it is the best one so far, as this limit was reached.
    """

    answer: str
    source: AnswerSource
    ask: int = 1
    reason: str | None = None


class Notice(Event, frozen=True, kw_only=True):
    """Something a person should know that is no failure."""

    message: str


class RunFinished(Event, frozen=True, kw_only=True):
    """The last event of every run that was not killed and whose recording could be written to its end.

    `usage` is per model name, over all attempts, and `subcalls` counts those that cells made, those below too (None
    where it was not recorded yet). `reason` is why an answer is partial. Requests and cells without an end of their own
    ended with the run.
    """

    status: RunStatus
    answer: str | None
    seconds: float
    turns: int
    usage: dict[str, Usage]
    subcalls: int | None = None
    error: str | None = None
    message: str | None = None
    reason: str | None = None
