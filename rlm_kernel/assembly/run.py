"""One run as it is recorded: its first events, its last one, and the sink of those between."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from rlm_kernel.assembly.contexts import context_events
from rlm_kernel.assembly.models import Models
from rlm_kernel.config import Settings
from rlm_kernel.errors import RecordingError, StorageError
from rlm_kernel.events import (
    AnyEvent,
    EventSink,
    Notice,
    QuestionAsked,
    QuestionFailed,
    RunFinished,
    RunOrigin,
    RunStarted,
    RunStatus,
    SandboxStarted,
    SubcallRequested,
    TurnStarted,
)
from rlm_kernel.sandbox.stored import Stored
from rlm_kernel.tools import Toolbox
from rlm_kernel.version import __version__


@dataclass(slots=True)
class Run:
    """One run from its first event to its last, and the sink of those between; it counts questions and turns.

    `status`, `answer`, `reason` and `error` are those of its last question, `boxes` the containers that it had.
    """

    id: str
    sink: EventSink
    models: Models
    context: Stored
    started: float
    tools: Toolbox
    asks: int = 0
    turns: int = 0
    status: RunStatus = "answered"
    answer: str | None = None
    reason: str | None = None
    error: BaseException | None = None
    parent: str | None = None
    depth: int = 0
    origin: RunOrigin | None = None
    boxes: list[SandboxStarted] = field(default_factory=list)

    def emit(self, event: AnyEvent) -> None:
        """Pass `event` on."""
        self.asks += isinstance(event, QuestionAsked)
        self.turns += isinstance(event, TurnStarted)
        if isinstance(event, SandboxStarted):
            self.boxes.append(event)
        if isinstance(event, SubcallRequested):
            self.models.meter.add_subcall()
        self.sink.emit(event)

    @contextmanager
    def recorded(self, question: str, settings: Settings) -> Iterator[None]:
        """Record the run's first events, and its last one however the block ends.

        An error of the block is the run's; without one it ends as its last question did.
        """
        try:
            self._begin(question, settings)
            yield
        except BaseException as error:  # whatever ends a run, a bug included, its recording is to tell
            self._ended(error)
            with suppress(RecordingError, StorageError):  # what ended the run may be the recording itself
                self._finish()
            raise
        self._finish()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Record why a question that is asked in the block has no answer."""
        asks = self.asks
        try:
            yield
        except BaseException as error:  # as above
            self._ended(error)
            if self.asks > asks:
                with suppress(RecordingError, StorageError):
                    self.emit(QuestionFailed(ask=self.asks, error=type(error).__name__, message=str(error)))
            raise

    def answered(self, status: RunStatus, answer: str, reason: str | None = None) -> None:
        """Take note of a question's answer, and of the reason why it is partial."""
        self.status, self.answer, self.reason, self.error = status, answer, reason, None

    def _ended(self, error: BaseException) -> None:
        self.status = "failed" if isinstance(error, Exception) else "cancelled"
        self.answer, self.reason, self.error = None, None, error

    def _begin(self, question: str, settings: Settings) -> None:
        self.models.recorded_as(self.id, lambda message: self.emit(Notice(message=message)))
        self.emit(
            RunStarted(
                run=self.id,
                question=question,
                model=self.models.root.name,
                sub_model=self.models.sub.name,
                package_version=__version__,
                python_version=platform.python_version(),
                parent_run=self.parent,
                depth=self.depth,
                settings=settings.as_json(),
                tools=list(self.tools.announced()),
                platform=platform.platform(),
                origin=self.origin,
            )
        )
        for event in context_events(self.context):
            self.emit(event)

    def _finish(self) -> None:
        failed = self.error if self.status == "failed" else None
        self.emit(
            RunFinished(
                status=self.status,
                answer=self.answer,
                seconds=time.monotonic() - self.started,
                turns=self.turns,
                usage=dict(self.models.meter.usage),
                subcalls=self.models.meter.subcalls,
                error=type(failed).__name__ if failed else None,
                message=str(failed) if failed else None,
                reason=self.reason,
            )
        )
