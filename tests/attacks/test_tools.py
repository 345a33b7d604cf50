"""Host tools under attack: what a cell can make of the one door that its caller cut."""

from __future__ import annotations

import asyncio

import pytest

from rlm_kernel.errors import GuestProtocolError
from rlm_kernel.events import ToolReplied, ToolRequested
from rlm_kernel.sandbox.spec import Carrier
from rlm_kernel.tools import HostTool, Toolbox, ToolLimits
from tests.attacks.conftest import assert_usable, memory_bound, printed, program, run
from tests.docker.conftest import MIB, OpenSession
from tests.support.sinks import Events

LINK = program("link")
TOOL = """
def tool(number, name, arguments): return call(kind="tool", id=number, tool=name, arguments=arguments)
"""


def double(n: int, text: str = "") -> int:
    """Double a number."""
    if n == 13:
        raise RuntimeError(f"unlucky, in {__file__}")
    return 2 * n


async def test_hostile_arguments(open_test_session: OpenSession, carrier: Carrier, events: Events) -> None:
    """Wrong types, deep and huge JSON, other tools, other names: each call fails by itself, and tells nothing."""
    code = """from rlm_guest import questions
arguments = ["", "null", '{"n": "x"}', '{"n": 1, "self": 2}', '{"n": 1, "__init__": 2}', "[" * 200_000, '{"n": 13}',
    '{"n": ' + "9" * 100_000 + "}", '{"n": 1, "text": "' + "x" * 2_000_000 + '"}']
names = ["__import__", "os.system", "double\\0", "../double", "x" * 200]
calls = [("double", each) for each in arguments] + [(name, "{}") for name in names]
told = [questions.call("tool", {"tool": name, "arguments": text}) for name, text in calls]
print(all(isinstance(each, LLMQueryError) for each in told), max(len(str(each)) for each in told), double(4))
print(*told, sep="\\n")
"""
    async with open_test_session(carrier=carrier, tools=Toolbox([HostTool.of(double)])) as session:
        said = printed(await run(session, code))
        await assert_usable(session)
    first, *told = said.splitlines()
    assert first.startswith("True ")
    assert first.endswith(" 8")
    assert told[6] == "the tool failed (RuntimeError)"
    assert "arguments have 2,000,020 characters" in told[8]
    assert [event.result for event in events.of(ToolReplied)] == ["8"]
    assert __file__ not in said


async def test_ids_used_again(open_test_session: OpenSession) -> None:
    """Two calls of one id at once, of a tool and of a model, break the protocol, and the session with it."""
    hang = asyncio.Event()

    async def wait() -> None:
        """Wait."""
        await hang.wait()

    code = f"{LINK}{TOOL}\nown = link()\nown.sendall(tool(7, 'wait', '{{}}') + call(id=7, prompt='x'))\nwait()"
    async with open_test_session(tools=Toolbox([HostTool.of(wait)])) as session:
        with pytest.raises(GuestProtocolError, match="the id 7 for two sub-calls"):
            await run(session, code)


async def test_calls_while_no_cell_runs(open_test_session: OpenSession, events: Events) -> None:
    """A thread that outlives its cell gets nothing run."""
    code = """import threading, time
def later():
    while not stop:
        try: double(1)
        except ToolError as error: told.append(str(error))
        time.sleep(0.05)
stop, told = False, []
threading.Thread(target=later).start()
"""
    async with open_test_session(tools=Toolbox([HostTool.of(double)])) as session:
        await run(session, code)
        ran = len(events.of(ToolRequested))
        await asyncio.sleep(0.5)
        assert len(events.of(ToolRequested)) == ran
        assert "no cell is running" in printed(await run(session, "stop = True; print(told[-1])"))


async def test_thousands_at_once(open_test_session: OpenSession, events: Events) -> None:
    """The run's limit holds, few run at a time, and the host's memory stays flat."""
    running = most = 0

    async def slow(text: str) -> int:
        """Count who is here."""
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return len(text)

    code = """import asyncio
text = "x" * 20_000
done = await asyncio.gather(*(aslow(text) for _ in range(3000)), return_exceptions=True)
print(done.count(20_000), sum("used up" in str(each) for each in done))
"""
    tools = Toolbox([HostTool.of(slow)], ToolLimits(calls=500, parallel=4))
    async with memory_bound(150 * MIB), open_test_session(tools=tools) as session:
        assert printed(await run(session, code)) == "500 2500\n"
        await assert_usable(session)
    assert most <= 4
    assert len(events.of(ToolRequested)) == 500
