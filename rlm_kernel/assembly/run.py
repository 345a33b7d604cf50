"""One run as it is recorded: its first events, its last one, and the sink of those between."""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rlm_kernel.assembly.contexts import context_events
from rlm_kernel.assembly.models import Models
from rlm_kernel.config import Settings
from rlm_kernel.controller import Outcome
from rlm_kernel.errors import RecordingError, StorageError
from rlm_kernel.events import (
    AnyEvent,
    EventSink,
    RunFinished,
    RunStarted,
    RunStatus,
    TurnStarted,
)
from rlm_kernel.sandbox.stored import Stored
from rlm_kernel.version import __version__


@dataclass(slots=True)
class Run:
    """One run from its first event to its last, and the sink of those between; it counts the turns."""

    id: str
    sink: EventSink
    models: Models
    context: Stored
    started: float
    turns: int = 0

    def emit(self, event: AnyEvent) -> None:
        """Pass `event` on."""
        self.turns += isinstance(event, TurnStarted)
        self.sink.emit(event)

    async def record(self, answering: Coroutine[Any, Any, Outcome], question: str, settings: Settings) -> Outcome:
        """Await `answering` between the run's first events and its last one, however it ends."""
        try:
            self._begin(question, settings)
            outcome = await answering
        except asyncio.CancelledError:
            self._finish("cancelled", None)
            raise
        except Exception as error:  # whatever ends a run, a bug included, its recording is to tell
            with suppress(RecordingError, StorageError):  # what ended the run may be the recording itself
                self._finish("failed", None, error)
            raise
        finally:
            answering.close()
        self._finish(outcome.status, outcome.answer)
        return outcome

    def _begin(self, question: str, settings: Settings) -> None:
        self.emit(
            RunStarted(
                run=self.id,
                question=question,
                model=self.models.root.name,
                sub_model=self.models.sub.name,
                package_version=__version__,
                python_version=platform.python_version(),
                settings=settings.as_json(),
            )
        )
        for event in context_events(self.context):
            self.emit(event)

    def _finish(self, status: RunStatus, answer: str | None, error: Exception | None = None) -> None:
        self.emit(
            RunFinished(
                status=status,
                answer=answer,
                seconds=time.monotonic() - self.started,
                turns=self.turns,
                usage=dict(self.models.meter.usage),
                error=type(error).__name__ if error else None,
                message=str(error) if error else None,
            )
        )
