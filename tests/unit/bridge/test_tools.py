"""Tool calls on the bridge: recorded, answered, refused; what the guest is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rlm_kernel.bridge import Bridge, Offer
from rlm_kernel.bridge.bridge import REFUSALS_RECORDED
from rlm_kernel.bridge.kinds import MAX_ARGUMENTS
from rlm_kernel.errors import GuestProtocolError
from rlm_kernel.events import Notice, ToolFailed, ToolRefused, ToolReplied, ToolRequested
from rlm_kernel.guest.wire import Channel
from rlm_kernel.stream import Endpoint
from rlm_kernel.tools import HostTool, Toolbox, ToolLimits
from tests.support.fakes import FakeModel
from tests.support.guest import Guest, guest_and_endpoint
from tests.support.sinks import Events


def double(n: int) -> int:
    """Double a number."""
    if n < 0:
        raise ValueError("/home/someone: negative")
    return 2 * n


@asynccontextmanager
async def bridged(events: Events, calls: int = 10) -> AsyncIterator[tuple[Guest, Bridge, Endpoint]]:
    """Yield a guest that may call `double`."""
    tools = Toolbox([HostTool.of(double)], ToolLimits(calls=calls))
    offer = Offer({None: FakeModel([])}, tools=tools)
    async with guest_and_endpoint() as (guest, endpoint), Bridge(endpoint, offer, events, parallel=1) as bridge:
        yield guest, bridge, endpoint


async def call(guest: Guest, number: int, **fields: Any) -> Any:
    """Make one call and return the answer."""
    message = {"kind": "tool", "id": number, "tool": "double", "arguments": '{"n": 3}', **fields}
    await guest.say(Channel.SUBCALL, message)
    while guest.wire.queued(Channel.SUBCALL):
        await guest.flush()
    return await guest.next(Channel.SUBCALL)


async def test_a_call_is_recorded_and_answered() -> None:
    """The event before the call has all of it; the result goes back as JSON text."""
    events = Events()
    async with bridged(events) as (guest, bridge, _):
        with bridge.open_for(4):
            assert await call(guest, 1) == {"id": 1, "text": "6"}
    assert events.all[0] == ToolRequested(call="s1", cell=4, tool="double", arguments='{"n": 3}')
    (replied,) = events.of(ToolReplied)
    assert (replied.call, replied.result) == ("s1", "6")


@pytest.mark.parametrize(
    ("arguments", "told", "error"),
    [
        ('{"n": -1}', "the tool failed (ValueError)", "ValueError"),
        ('{"n": []}', "n: Input should be a valid integer", "ToolRefused"),
    ],
)
async def test_a_failure_is_recorded_as_it_was_and_told_in_words(arguments: str, told: str, error: str) -> None:
    """The recording has the host's own message; the guest never has."""
    events = Events()
    async with bridged(events) as (guest, bridge, _):
        with bridge.open_for(1):
            answer = await call(guest, 1, arguments=arguments)
    assert answer == {"id": 1, "error": {"code": "failed", "message": told}}
    (failed,) = events.of(ToolFailed)
    assert (failed.code, failed.told, failed.error) == ("failed", told, error)
    assert ("/home" in failed.message) == (error == "ValueError")


async def test_what_is_refused() -> None:
    """Unknown tools, long arguments, calls over the limit and calls while no cell runs; the recording stays bounded."""
    events = Events()
    async with bridged(events, calls=1) as (guest, bridge, _):
        assert "no cell is running" in (await call(guest, 1))["error"]["message"]
        with bridge.open_for(1):
            assert "there is no tool '__import__'" in (await call(guest, 2, tool="__import__"))["error"]["message"]
            long = '"' + "x" * MAX_ARGUMENTS + '"'
            assert "at most 1,048,576 can be" in (await call(guest, 3, arguments=long))["error"]["message"]
            assert (await call(guest, 4))["text"] == "6"
            for number in range(5, REFUSALS_RECORDED + 20):
                assert "used up" in (await call(guest, number))["error"]["message"]
    refused = events.of(ToolRefused)
    assert len(refused) == REFUSALS_RECORDED
    assert (refused[0].cell, refused[1].tool, refused[2].arguments_length) == (None, "__import__", MAX_ARGUMENTS + 2)
    assert max(len(event.arguments) for event in refused) == 1_000
    assert len(events.of(Notice)) == 1


@pytest.mark.parametrize(
    "message",
    [
        {"kind": "tool", "id": 1, "tool": "double", "arguments": {"n": 3}},
        {"kind": "tool", "id": 1, "tool": "x" * 201, "arguments": "{}"},
        {"kind": "tool", "id": 1, "tool": "double", "arguments": "{}", "timeout": 10**9},
        {"kind": "tools", "id": 1, "tool": "double", "arguments": "{}"},
        {"kind": "tool", "id": -1, "tool": "double", "arguments": "{}"},
    ],
)
async def test_a_malformed_call_ends_the_session(message: dict[str, Any]) -> None:
    """Nothing that the protocol does not have gets to a tool."""
    events = Events()
    async with bridged(events) as (guest, bridge, endpoint):
        with bridge.open_for(1):
            await guest.say(Channel.SUBCALL, message)
            assert isinstance(await endpoint.lost, GuestProtocolError)
    assert events.all == []
