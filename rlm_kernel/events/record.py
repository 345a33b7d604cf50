"""All events as one type, the line of a recording, and where events go."""

from __future__ import annotations

from typing import Protocol

import msgspec

from rlm_kernel.events.budget import BudgetSpent, BudgetWarning
from rlm_kernel.events.calls import (
    ModelFailed,
    ModelReplied,
    ModelRequested,
    ModelRetried,
    SubcallFailed,
    SubcallRefused,
    SubcallReplied,
    SubcallRequested,
    TurnStarted,
)
from rlm_kernel.events.cells import (
    CellFinished,
    CellInterrupted,
    CellOutput,
    CellOutputCleared,
    CellStarted,
    ContextChunked,
)
from rlm_kernel.events.conversation import HistoryCompacted, ProfileChosen
from rlm_kernel.events.questions import AnswerRejected, QuestionAsked, QuestionFailed
from rlm_kernel.events.run import AnswerGiven, ContextStored, Notice, RunFinished, RunStarted, WentLive
from rlm_kernel.events.sandbox import KernelLost, KernelReady, KernelRebuilt, SandboxStarted
from rlm_kernel.events.tools import ToolFailed, ToolRefused, ToolReplied, ToolRequested

SCHEMA_VERSION = 2
"""Written by this package; it reads this one and those before it."""


AnyEvent = (
    RunStarted
    | ContextStored
    | SandboxStarted
    | KernelReady
    | KernelLost
    | KernelRebuilt
    | QuestionAsked
    | AnswerRejected
    | QuestionFailed
    | TurnStarted
    | ProfileChosen
    | HistoryCompacted
    | ModelRequested
    | ModelReplied
    | ModelFailed
    | ModelRetried
    | CellStarted
    | CellOutput
    | ContextChunked
    | CellOutputCleared
    | CellInterrupted
    | CellFinished
    | SubcallRequested
    | SubcallReplied
    | SubcallFailed
    | SubcallRefused
    | ToolRequested
    | ToolReplied
    | ToolFailed
    | ToolRefused
    | BudgetWarning
    | BudgetSpent
    | WentLive
    | AnswerGiven
    | Notice
    | RunFinished
)


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a recording: the schema's version, a number that counts from 0, UTC in seconds, the event.

    `prev` is SHA-256 of the line before, its newline left out, in hexadecimal; the first line has none, nor has any
    line of version 1. `redacted` are the places in the event where something was kept out of it, such as
    `messages.0.content`.

    `node` says whose event it is: "" is the root session, "s12" the session that answers its sub-call s12, "s12/s3" the
    one that answers that one's sub-call s3.
    """

    v: int
    seq: int
    at: float
    event: AnyEvent
    node: str = ""
    prev: str = ""
    redacted: list[str] = msgspec.field(default_factory=list)


class EventSink(Protocol):
    """Where one session's events go."""

    def emit(self, event: AnyEvent) -> None:
        """Take `event`; it is durable against a kill of this process when this returns."""


class TreeSink(Protocol):
    """Where the events of a whole run go, those of the sessions that its sub-calls started among them."""

    def emit(self, event: AnyEvent, node: str = "") -> None:
        """Take `event` of the session at `node`, as `EventSink` does."""
