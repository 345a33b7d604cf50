"""Event sinks for tests."""

from __future__ import annotations

from typing import TypeVar

from rlm_kernel.events import AnyEvent

E = TypeVar("E")


class Events:
    """Keeps every event in order."""

    def __init__(self) -> None:
        self.all: list[AnyEvent] = []

    def emit(self, event: AnyEvent) -> None:
        """Keep `event`."""
        self.all.append(event)

    def of(self, kind: type[E]) -> list[E]:
        """Return the events of one class."""
        return [event for event in self.all if isinstance(event, kind)]
