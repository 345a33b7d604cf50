"""Host tools in real sessions, on both carriers, and in whole runs."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel import RLM, Contexts, Settings, ToolError
from rlm_kernel.errors import ConfigError
from rlm_kernel.events import ModelRequested, RunStarted, ToolFailed, ToolReplied, ToolRequested
from rlm_kernel.sandbox.spec import Carrier
from rlm_kernel.tools import HostTool, Toolbox, ToolLimits
from tests.attacks.conftest import assert_usable, printed, run
from tests.docker.conftest import OpenSession
from tests.docker.test_rlm import cell, script, settings
from tests.support.sinks import Events

__all__ = ["settings"]


def lookup(city: str, *, limit: int = 2) -> list[dict[str, Any]]:
    """Find orders of a city."""
    if city == "Atlantis":
        raise ToolError("there is no such city")
    return [{"city": city, "number": number} for number in range(limit)]


async def test_a_tool_in_a_cell(open_test_session: OpenSession, carrier: Carrier, events: Events) -> None:
    """It is called as a function, awaited too; its failures are raised, and all is recorded."""
    tools = Toolbox([HostTool.of(lookup)])
    async with open_test_session(carrier=carrier, tools=tools) as session:
        code = "print(lookup('Lima')[1], len(await alookup('Rome', limit=5)))"
        assert printed(await run(session, code)) == "{'city': 'Lima', 'number': 1} 5\n"
        result = await run(session, "lookup('Atlantis')")
        assert (result.ename, result.evalue) == ("ToolError", "there is no such city")
    assert [event.tool for event in events.of(ToolRequested)] == ["lookup"] * 3
    assert (len(events.of(ToolReplied)), events.of(ToolFailed)[0].told) == (2, "there is no such city")


async def test_a_rebuild_runs_no_tool_again(open_test_session: OpenSession, events: Events) -> None:
    """The cells get the results that they had, and the host's function is called for new calls alone."""
    called = []

    def charge(amount: int) -> int:
        """Do what must not be done twice."""
        called.append(amount)
        if amount == 13:
            raise ToolError("not today")
        return len(called)

    async with open_test_session(tools=Toolbox([HostTool.of(charge)]), rebuild=True) as session:
        await run(session, "a = charge(5); b = charge(5)")
        await run(session, "try: charge(13)\nexcept ToolError as error: told = str(error)")
        result = await run(session, "import os; os._exit(1)")
        assert {"a", "b", "told"} <= set(result.rebuilt)
        assert printed(await run(session, "print(a, b, told, charge(7))")) == "1 2 not today 4\n"
    assert called == [5, 5, 13, 7]
    assert len(events.of(ToolRequested)) == 4


async def test_a_tool_ends_with_its_cell(open_test_session: OpenSession, events: Events) -> None:
    """At the cell's time limit an async tool is cancelled, a thread is let go of, and the session lives on."""
    cancelled, go_on = asyncio.Event(), threading.Event()

    async def wait() -> None:
        """Wait for ever."""
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    def block() -> None:
        """Wait in a way that can't be ended."""
        go_on.wait(60)

    tools = Toolbox(map(HostTool.of, (wait, block)), ToolLimits(timeout=50))
    async with open_test_session(tools=tools, cell_timeout=1) as session:
        for code in ("wait()", "block()", "await ablock()"):
            result = await run(session, code)
            assert result.status == "timed_out", result
        await assert_usable(session)
    assert cancelled.is_set()
    assert len(events.of(ToolFailed)) == 3
    go_on.set()


async def test_a_run_with_tools(settings: Settings, tmp_path: Path, events: Events) -> None:
    """The system prompt and the recording say what there is; names of the kernel and of contexts are refused."""
    model = script(tmp_path, cell("FINAL(lookup('Lima')[0]['city'])"))
    async with RLM(model, settings=settings, on_event=events, tools=[lookup]) as rlm:
        assert (await rlm.acompletion("Where?", "x")).answer == "Lima"
        with pytest.raises(ConfigError, match="the context 'alookup' has the name of a tool"):
            await rlm.acompletion("Where?", Contexts(alookup="x"))
    said = events.of(ModelRequested)[0].messages[0].content
    assert "- `lookup(city: str, *, limit: int = 2) -> list[dict[str, typing.Any]]`: Find orders of a city." in said
    assert [tool["name"] for tool in events.of(RunStarted)[0].tools] == ["lookup"]


def test_names_that_a_tool_can_not_have(settings: Settings) -> None:
    """Those of the kernel's own functions, of builtins, and of what is no identifier."""

    def named(name: str) -> Any:
        def tool() -> None:
            """Do nothing."""

        tool.__name__ = name
        return tool

    for names in (["llm_query"], ["print"], ["lambda"], ["_x"], ["nswer"], ["sk", "ask"]):
        with pytest.raises(ConfigError):
            RLM(settings=settings, tools=map(named, names))
    RLM(settings=settings, tools=map(named, ["sk", "ink"]))
