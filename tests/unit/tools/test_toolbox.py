"""Running host tools: limits, failures, and what a cell is told of them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from rlm_kernel.errors import ConfigError
from rlm_kernel.tools import HostTool, Toolbox, ToolCallFailed, ToolError, ToolLimits, toolbox


def box(*functions: Callable[..., Any], timeout: float = 20, calls: int = 100, parallel: int = 2) -> Toolbox:
    """Return the tools with limits."""
    return Toolbox(map(HostTool.of, functions), ToolLimits(timeout=timeout, calls=calls, parallel=parallel))


def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


async def aadd_later(a: int, b: int = 1) -> int:
    """Add, asynchronously."""
    await asyncio.sleep(0)
    return a + b


def fails(kind: str) -> None:
    """Fail as asked."""
    errors = {
        "author": ToolError("the city is unknown"),
        "other": ValueError("/home/someone/secret.py is wrong"),
        "exit": SystemExit(3),
        "interrupt": KeyboardInterrupt(),
        "cancel": asyncio.CancelledError(),
        "timeout": TimeoutError("the database"),
    }
    raise errors[kind]


async def afails(kind: str) -> None:
    """Fail as asked, asynchronously."""
    fails(kind)


async def test_both_kinds_of_functions_run() -> None:
    """An async one in the loop, another in a thread of its own, with the context variables of the caller."""
    where = []

    def here() -> None:
        """Tell the thread."""
        where.append(threading.current_thread())

    tools = box(add, aadd_later, here)
    assert await tools.call("add", '{"a": 2}') == "3"
    assert await tools.call("aadd_later", '{"a": 2, "b": 3}') == "5"
    await tools.call("here", "{}")
    assert where[0] is not threading.current_thread()
    assert where[0].daemon


@pytest.mark.parametrize(
    ("kind", "told", "error"),
    [
        ("author", "the city is unknown", "ToolError"),
        ("other", "the tool failed (ValueError)", "ValueError"),
        ("exit", "the tool failed (SystemExit)", "SystemExit"),
        ("interrupt", "the tool failed (KeyboardInterrupt)", "KeyboardInterrupt"),
        ("cancel", "the tool failed (CancelledError)", "CancelledError"),
        ("timeout", "the tool failed (TimeoutError)", "TimeoutError"),
    ],
)
async def test_a_failure_tells_its_class_alone(kind: str, told: str, error: str) -> None:
    """Only `ToolError` passes its message on; nothing that a tool raises reaches the event loop."""
    for name in ("fails", "afails"):
        if name == "afails" and kind == "interrupt":
            continue  # a real Ctrl-C, which ends the program
        with pytest.raises(ToolCallFailed) as caught:
            await box(fails, afails).call(name, f'{{"kind": "{kind}"}}')
        assert (caught.value.told, caught.value.error) == (told, error)


async def test_hostile_arguments_fail_that_call_alone() -> None:
    """The function is not run."""
    tools = box(add)
    for arguments in ("", "[]", '{"a": {}}', '{"a": 1, "c": 2}', "[" * 100_000):
        with pytest.raises(ToolCallFailed):
            await tools.call("add", arguments)
    assert await tools.call("add", '{"a": 2}') == "3"


async def test_calls_are_counted() -> None:
    """Over the run's limit, and for an unknown tool, a call is refused in words."""
    tools = box(add, calls=2)
    assert tools.refusal("nothing") == "there is no tool 'nothing'"
    assert [tools.refusal("add") for _ in range(3)] == [None, None, "the 2 tool calls of this run are used up"]


async def test_a_bounded_number_run_at_once() -> None:
    """The others wait for a place."""
    running, most = 0, 0

    async def work() -> None:
        """Count who is here."""
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1

    tools = box(work)
    await asyncio.gather(*(tools.call("work", "{}") for _ in range(10)))
    assert most == 2


async def test_a_tool_that_takes_too_long() -> None:
    """Its call fails in time. A thread that goes on keeps its place, and who finds none is told."""
    go_on = threading.Event()

    def hang() -> None:
        """Wait."""
        go_on.wait(20)

    async def ahang() -> None:
        """Wait, asynchronously."""
        await asyncio.Event().wait()

    tools = box(hang, ahang, add, timeout=0.1, parallel=1)
    with pytest.raises(ToolCallFailed, match="the tool took longer than"):
        await tools.call("ahang", "{}")
    with pytest.raises(ToolCallFailed, match="the tool took longer than"):
        await tools.call("hang", "{}")
    with pytest.raises(ToolCallFailed, match="none ended within"):
        await tools.call("add", '{"a": 1}')
    go_on.set()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with suppress(ToolCallFailed):
            assert await tools.call("add", '{"a": 1}') == "2"
            return
    raise AssertionError("the place was never free again")


async def test_a_cancel_ends_an_async_tool_and_lets_go_of_a_thread() -> None:
    """The task that called is over at once in both cases, and the place of the async one is free."""
    begun, cancelled, go_on = asyncio.Event(), asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    async def ahang() -> None:
        """Wait, and tell of a cancel."""
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    def hang() -> None:
        """Wait."""
        loop.call_soon_threadsafe(begun.set)
        go_on.wait(20)

    tools = box(ahang, hang, add, parallel=1)
    for name in ("ahang", "hang"):
        begun.clear()
        task = asyncio.ensure_future(tools.call(name, "{}"))
        await asyncio.wait_for(begun.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 5)
    assert cancelled.is_set()
    go_on.set()
    assert await tools.call("add", '{"a": 1}') == "2"


async def test_a_tool_that_swallows_its_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is let go of, and keeps its place until it ends."""
    monkeypatch.setattr(toolbox, "CANCEL_SECONDS", 0.05)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def deaf() -> None:
        """Wait, whatever comes."""
        begun.set()
        while not go_on.is_set():
            with suppress(asyncio.CancelledError):
                await go_on.wait()

    tools = box(deaf, aadd_later, parallel=1)
    call = asyncio.ensure_future(tools.call("deaf", "{}"))
    await begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(call, 10)
    following = asyncio.ensure_future(tools.call("aadd_later", '{"a": 2}'))
    await asyncio.sleep(0)
    assert not following.done()
    go_on.set()
    assert await following == "3"


def test_too_many_tools_or_words() -> None:
    """There is a bound to what a kernel is told."""
    with pytest.raises(ConfigError, match="need a name each"):
        box(add, add)

    def make(number: int) -> Callable[..., Any]:
        def tool() -> None:
            """Do nothing."""

        tool.__name__, tool.__doc__ = f"tool{number}", "ü" * 1_000
        return tool

    with pytest.raises(ConfigError, match="too long altogether"):
        box(*map(make, range(10)))
    assert sum(map(len, box(*map(make, range(3))).described())) < 20_000
