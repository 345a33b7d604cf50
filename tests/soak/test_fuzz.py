"""Long fuzzing of what the host reads from a guest."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.attacks import test_fuzz
from tests.unit.guest.test_wire_machine import Wires

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]


def test_any_frames_for_long() -> None:
    """Whatever frames arrive, however cut, the wire raises `WireError` only, and never holds more than its windows."""
    settings(test_fuzz.short, max_examples=20_000)(test_fuzz.ANY_FRAMES(test_fuzz.check_frames))()


def test_any_messages_for_long() -> None:
    """Whatever a guest says, a cell has a result or the session ends with an error of ours, within seconds."""
    settings(test_fuzz.short, max_examples=4_000)(test_fuzz.ANY_MESSAGES(test_fuzz.check_messages))()


def test_two_wires_for_long() -> None:
    """In any order of sending, carrying and releasing, all arrives once and in order, within the windows."""
    long = settings(test_fuzz.short, max_examples=400, stateful_step_count=50)
    run_state_machine_as_test(Wires, settings=long)
