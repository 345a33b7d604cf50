"""Cells that want more than their run's budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rlm_kernel import Settings
from rlm_kernel.events import CellInterrupted, SubcallFailed, SubcallRefused
from tests.docker.test_budget import answer, server, settings
from tests.docker.test_rlm import cell, script
from tests.support.provider_server import ProviderServer
from tests.support.sinks import Events

__all__ = ["server", "settings"]


async def test_a_guest_that_will_not_hear_of_it(
    settings: Settings, events: Events, server: ProviderServer, tmp_path: Path
) -> None:
    """A cell that swallows every refusal and asks on is ended; no provider is asked, few refusals are recorded."""
    hammer = cell(
        "while True:\n    try:\n        llm_query_batched(['again'] * 50)\n    except BaseException:\n        pass"
    )
    root = script(tmp_path, hammer, "FINAL(stopped)")
    result = await answer(replace(settings, max_subcalls=3), events, root)
    assert (result.answer, result.status) == ("stopped", "partial")
    assert len(server.requests) == 3
    assert len(events.of(SubcallRefused)) <= 100
    assert len(events.of(SubcallFailed)) <= 100
    assert {event.reason for event in events.of(CellInterrupted)} == {"budget"}


async def test_a_guest_that_forgets_its_budget(
    settings: Settings, events: Events, server: ProviderServer, tmp_path: Path
) -> None:
    """What a cell does to its own names and errors changes nothing: the host counts, and asks no provider any more."""
    forget = cell(
        "import sys\n"
        "module = sys.modules[llm_query.__module__]\n"
        "BudgetExceeded = None\n"
        "for name in ('BudgetExceeded', 'LLMQueryError'):\n"
        "    if hasattr(module, name):\n"
        "        setattr(module, name, ValueError)\n"
        "got = llm_query_batched(['again'] * 20, return_exceptions=True)\n"
        "FINAL(sum(isinstance(each, str) for each in got))"
    )
    result = await answer(replace(settings, max_subcalls=3), events, script(tmp_path, forget, "FINAL(none)"))
    assert result.status == "partial"
    assert result.answer in {"3", "none"}
    assert len(server.requests) == 3
