"""Event sinks for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import TypeVar

from rlm_kernel.events import AnyEvent, RunFinished, SandboxStarted

E = TypeVar("E")


class Events:
    """Keeps every event in order."""

    def __init__(self, events: Iterable[AnyEvent] = ()) -> None:
        self.all = list(events)
        self.nodes = [""] * len(self.all)
        self._calls: list[tuple[type, Callable[[], object]]] = []

    def on(self, kind: type, call: Callable[[], object]) -> None:
        """Call `call` at each event of one class."""
        self._calls.append((kind, call))

    def emit(self, event: AnyEvent, node: str = "") -> None:
        """Keep `event`."""
        self.all.append(event)
        self.nodes.append(node)
        for kind, call in self._calls:
            if isinstance(event, kind):
                call()

    def of(self, kind: type[E]) -> list[E]:
        """Return the events of one class."""
        return [event for event in self.all if isinstance(event, kind)]

    def at(self, kind: type[E]) -> list[tuple[str, E]]:
        """Return the events of one class, each with its session's place in the run."""
        return [(node, event) for node, event in zip(self.nodes, self.all, strict=True) if isinstance(event, kind)]

    def most_sessions(self) -> int:
        """Return how many sessions had a container at once, at most."""
        changes = (isinstance(event, SandboxStarted) - isinstance(event, RunFinished) for event in self.all)
        return max(accumulate(changes), default=0)
