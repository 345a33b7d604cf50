"""Cells that want more sessions than they may have, deeper ones, or ones with more than their share."""

from __future__ import annotations

from dataclasses import replace

from rlm_kernel import Settings
from rlm_kernel.events import RunStarted, SubcallFailed, SubcallRefused, SubcallRequested
from tests.attacks.conftest import memory_bound
from tests.docker.test_recursion import base_settings, run, settings
from tests.support.obedient import NEXT
from tests.support.sinks import Events

__all__ = ["base_settings", "settings"]

MIB = 1024 * 1024
FLOOD = """
import time
from rlm_guest import questions
calls = [questions._host.encode("rlm", prompt="FINAL(1)", model=None, context="x" * 20_000) for _ in range(5000)]
futures = [questions._host.post(*call) for call in calls]
time.sleep(1.5)
"""


async def test_what_a_cell_claims_costs_it_its_session(settings: Settings) -> None:
    """A request with a word on depth or budget breaks the protocol: that session ends, and the one above goes on."""
    events = Events()
    claims = "depth=-5, max_depth=9, budget=1e9, share=1, node=''"
    lie = f"from rlm_guest import questions as q\nq._host.post(*q._host.encode('rlm', prompt='p', {claims})).result()"
    code = f"try:\n    rlm_query({lie!r})\nexcept LLMQueryError as error:\n    FINAL(str(error))"
    result = await run(replace(settings, max_depth=1), code, events)
    assert result.answer == "the sub-call failed (GuestProtocolError)"
    assert [event.error for event in events.of(SubcallFailed)] == ["GuestProtocolError"]
    assert len(events.of(RunStarted)) == 2


async def test_other_models_do_not_lead_sessions(settings: Settings) -> None:
    """A session's root model is the run's, or its sub-model, and no other."""
    events = Events()
    code = (
        "try:\n    rlm_query('FINAL(1)', model='openai:gpt-5-pro')\n"
        "except LLMQueryError as error:\n    FINAL([str(error), rlm_query('FINAL(2)', model='vllm:sub')])"
    )
    assert "is not allowed here" in (await run(settings, code, events)).answer
    assert [event.asked for event in events.of(SubcallRefused)] == ["openai:gpt-5-pro"]
    assert [event.model for event in events.of(RunStarted)] == ["vllm:root", "vllm:sub"]


async def test_thousands_of_calls_at_once(settings: Settings) -> None:
    """They wait, most of them in the container; few sessions run, none is left after the cell, and the run goes on."""
    events = Events()
    async with memory_bound(150 * MIB):
        result = await run(replace(settings, max_sessions=2), f"{FLOOD}{NEXT}FINAL(2)", events)
    assert result.answer == "2"
    assert events.most_sessions() <= 3
    assert len(events.of(SubcallRequested)) + len(events.of(SubcallRefused)) < 2500  # of 5,000, in two cells


async def test_a_context_of_very_many_values(settings: Settings) -> None:
    """A context that would take the host a hundred times its size as values stays the bytes that it came in."""
    code = "FINAL(rlm_query('FINAL(len(context))', context=[[]] * 1_500_000))"
    async with memory_bound(80 * MIB):
        assert (await run(settings, code)).answer == "1500000"
