"""Many sessions three deep, and few seats."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rlm_kernel import Settings
from rlm_kernel.events import SandboxStarted
from tests.docker.test_recursion import base_settings, run, settings
from tests.support.obedient import nested
from tests.support.sinks import Events

__all__ = ["base_settings", "settings"]

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]


async def test_twenty_at_once_three_deep_with_two_seats(settings: Settings) -> None:
    """Twenty sessions at once, each with one below that has one below, all answer; seven containers live at most."""
    events = Events()
    code = f"FINAL(len([x for x in rlm_query_batched([{nested(2)!r}] * 20) if x == '1>2>echo bottom']))"
    result = await run(replace(settings, max_sessions=2), code, events)
    assert result.answer == "20"
    assert len(events.of(SandboxStarted)) == 61
    assert events.most_sessions() <= 7
