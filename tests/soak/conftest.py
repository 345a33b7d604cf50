"""Long runs: the fixtures of the container tests, and events that are counted instead of kept."""

from __future__ import annotations

from collections import Counter

import pytest

from rlm_kernel.events import AnyEvent
from tests.docker.conftest import carrier, engine, image, nothing_left, open_test_session, runtime, sandbox_spec
from tests.support.sinks import Events

__all__ = ["carrier", "engine", "events", "image", "nothing_left", "open_test_session", "runtime", "sandbox_spec"]


class Counted(Events):
    """Counts events by their class and keeps none."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def emit(self, event: AnyEvent, node: str = "") -> None:
        """Count `event`."""
        self.count[type(event).__name__] += 1


@pytest.fixture
def events() -> Counted:
    """How often what happened."""
    return Counted()
