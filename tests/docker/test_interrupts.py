"""The interrupt ladder on the real engine: whatever a cell does, its result comes, and the session goes on."""

from __future__ import annotations

import asyncio
import time

import docker
import pytest

from rlm_kernel.errors import SandboxLost
from rlm_kernel.events import (
    CellFinished,
    CellInterrupted,
    CellOutput,
    KernelLost,
    KernelReady,
    SandboxStarted,
    SubcallFailed,
    SubcallReplied,
    SubcallRequested,
)
from rlm_kernel.kernel import CellResult, start
from rlm_kernel.sandbox.container import LABEL
from rlm_kernel.sandbox.owner import owner
from rlm_kernel.sandbox.spec import Carrier
from rlm_kernel.session import Session
from tests.docker.conftest import MIB, OpenSession
from tests.support.fakes import FakeModel, SilentModel
from tests.support.sinks import Events

LIMIT = 0.5
ALLOWED = LIMIT + 2 + 1
"""The promise, and a second for a machine that has other work too."""

SIGINT, CANCEL, RESTART = ["sigint"], ["sigint", "cancel"], ["sigint", "cancel", "restart"]
IGNORED = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
BLOCKED = "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))\n"

CELLS: dict[str, tuple[str, list[str]]] = {
    "sleep": ("import time; time.sleep(60)", SIGINT),
    "await": ("import asyncio; await asyncio.sleep(1000)", SIGINT),
    "loop": ("while True: pass", SIGINT),
    "loop after await": ("import asyncio\nawait asyncio.sleep(0)\nwhile True: pass", SIGINT),
    "regular expression": ("import re; re.match('(a+)+$', 'a' * 60 + 'b')", SIGINT),
    "pipe": ("import os; os.mkfifo('/tmp/pipe'); open('/tmp/pipe').read()", SIGINT),
    "device": ("with open('/dev/urandom', 'rb') as file:\n    while file.read(2**20): pass", SIGINT),
    "stopped": ("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)\nwhile True: pass", SIGINT),
    "threads": (
        "import threading, time\ndef spin():\n    while True: time.sleep(0.001)\n"
        "threads = [threading.Thread(target=spin) for _ in range(5)]\n"
        "for thread in threads: thread.start()\nthreads[0].join()",
        SIGINT,
    ),
    "child": ("import subprocess; subprocess.run(['sleep', '1000'])", SIGINT),
    "forks": (
        "import os, time\nfor _ in range(3):\n    if os.fork() == 0:\n        while True: time.sleep(1)\nos.wait()",
        SIGINT,
    ),
    "sub-call": ("llm_query('x')", SIGINT),
    "sub-calls": ("llm_query_batched(['x', 'y', 'z'])", SIGINT),
    "awaited sub-call": ("await allm_query('x')", SIGINT),
    "ignores": (f"{IGNORED}while True: pass", CANCEL),
    "ignores, awaits": (f"{IGNORED}import asyncio; await asyncio.sleep(1000)", CANCEL),
    "ignores, loops after await": (f"{IGNORED}import asyncio; await asyncio.sleep(0)\nwhile True: pass", CANCEL),
    "blocks": (f"{BLOCKED}while True: pass", SIGINT),
    "handles": ("import signal\nsignal.signal(signal.SIGINT, lambda *_: None)\nwhile True: pass", CANCEL),
    "ignores, sleeps": (f"{IGNORED}import time; time.sleep(1000)", RESTART),
    "blocks, sleeps": (f"{BLOCKED}import time; time.sleep(1000)", RESTART),
    "holds the interpreter": ("sum(range(10**12))", RESTART),
    "catches all": ("import time\nwhile True:\n    try: time.sleep(60)\n    except BaseException: pass", RESTART),
    "awaits, catches all": (
        "import asyncio\nwhile True:\n    try: await asyncio.sleep(60)\n    except BaseException: pass",
        RESTART,
    ),
}


async def run(session: Session, code: str) -> CellResult:
    """Run one cell."""
    return await session.run_cell(code, turn=1)


def text(result: CellResult) -> str:
    """Return what a cell printed."""
    assert result.status == "ok", result
    return "".join(str(output["text"]) for output in result.outputs if output["output_type"] == "stream")


def steps(events: Events) -> list[str]:
    """Return the steps that were recorded."""
    return [event.step for event in events.of(CellInterrupted)]


@pytest.mark.parametrize("name", CELLS)
async def test_a_cell_over_its_limit(open_test_session: OpenSession, name: str, events: Events) -> None:
    """The result is back two seconds after the limit, the variables are kept where a step before the restart was
    enough, each step is recorded, and the next cells work."""
    code, expected = CELLS[name]
    carrier: Carrier = "socket" if list(CELLS).index(name) % 2 else "attach"
    model = SilentModel()
    async with open_test_session(models={None: model}, cell_timeout=LIMIT, carrier=carrier) as session:
        await run(session, "kept = 1")
        started = time.monotonic()
        result = await run(session, code)
        assert time.monotonic() - started < ALLOWED
        assert result.status == "timed_out"
        # A busy machine may need a step more; a cell that is deaf never needs one less.
        assert steps(events)[: len(expected)] == expected
        kept = result.lost is None
        assert kept == ("restart" not in steps(events))
        assert result.lost in (None, ("kept",))
        assert [event.seconds >= LIMIT for event in events.of(CellInterrupted)] == [True] * len(steps(events))
        assert text(await run(session, "print('kept' in globals(), context)")) == f"{kept} context\n"
        assert (await run(session, "1/0")).ename == "ZeroDivisionError"
        assert text(await run(session, "import asyncio; await asyncio.sleep(0); print('on')")) == "on\n"
    if "llm_query" in code:
        assert model.cancelled
        assert len(events.of(SubcallFailed)) == len(events.of(SubcallRequested)) > 0


async def test_a_cell_that_asks_for_input(open_test_session: OpenSession) -> None:
    """Nobody is there to type: `input` fails at once instead of waiting."""
    async with open_test_session() as session:
        assert (await run(session, "input('name?')")).ename == "StdinNotImplementedError"


async def test_a_cell_can_be_stopped(open_test_session: OpenSession, carrier: Carrier, events: Events) -> None:
    """`interrupt` stops the running cell and leaves its variables; without a cell it does nothing."""
    async with open_test_session(carrier=carrier) as session:
        session.interrupt()
        await run(session, "kept = 1")
        cell = asyncio.ensure_future(run(session, "print('on', flush=True)\nwhile True: pass"))
        async with asyncio.timeout(10):
            while not events.of(CellOutput):
                await asyncio.sleep(0.05)
        session.interrupt(reason="budget")
        session.interrupt()
        assert (await asyncio.wait_for(cell, 5)).status == "interrupted"
        assert [(event.cell, event.step, event.reason) for event in events.of(CellInterrupted)] == [
            (2, "sigint", "budget")
        ]
        assert text(await run(session, "print(kept)")) == "1\n"


async def test_a_cell_is_stopped_at_any_moment(open_test_session: OpenSession) -> None:
    """A stop is never lost: not before the cell was sent, not before it began, not as it ends."""
    async with open_test_session() as session:
        for delay in (0.0, 0.0, 0.001, 0.002, 0.004, 0.008, 0.02):
            cell = asyncio.ensure_future(run(session, "x = 1\nwhile True: pass"))
            await asyncio.sleep(delay)
            session.interrupt()
            result = await asyncio.wait_for(cell, 5)
            assert (result.status, result.lost) == ("interrupted", None), delay
        assert text(await run(session, "print('on')")) == "on\n"


async def test_a_killed_container_is_replaced(
    open_test_session: OpenSession, engine: docker.APIClient, events: Events, carrier: Carrier
) -> None:
    """When the container ends in a cell, its result says so at once, and the next cells run in another one, their
    numbers, sub-calls and kernels counted on."""
    model = FakeModel(["one", "two"])
    async with open_test_session(carrier=carrier, models={None: model}) as session:
        assert text(await run(session, "mine = llm_query('a'); print(mine)")) == "one\n"
        cell = asyncio.ensure_future(run(session, "print('on', flush=True); import time; time.sleep(60)"))
        async with asyncio.timeout(10):
            while len(events.of(CellOutput)) < 2:
                await asyncio.sleep(0.05)
        engine.kill(events.of(SandboxStarted)[0].container)
        result = await asyncio.wait_for(cell, 10)
        assert (result.status, result.ename, result.lost) == ("kernel_died", "SandboxLost", ("mine",))
        assert text(await run(session, "print(context, 'mine' in globals(), llm_query('b'))")) == "context False two\n"
    assert len({event.container for event in events.of(SandboxStarted)}) == 2
    assert [event.generation for event in events.of(KernelReady)] == [1, 2]
    assert [event.cell for event in events.of(CellFinished)] == [1, 2, 3]
    assert [event.call for event in events.of(SubcallReplied)] == ["s1", "s2"]
    assert len(events.of(KernelLost)) == 1


async def test_a_container_killed_between_cells(
    open_test_session: OpenSession, engine: docker.APIClient, events: Events, carrier: Carrier
) -> None:
    """The next cell says what was lost instead of running without it, and the one after it runs."""
    async with open_test_session(carrier=carrier) as session:
        await run(session, "mine = 1")
        engine.kill(events.of(SandboxStarted)[0].container)
        async with asyncio.timeout(10):
            result = await run(session, "mine += 1")
        assert (result.ename, result.lost) == ("SandboxLost", ("mine",))
        result = await run(session, "print(context)")
        assert (text(result), result.files_lost) == ("context\n", False)


async def test_another_container_starts_at_once(
    open_test_session: OpenSession, engine: docker.APIClient, events: Events
) -> None:
    """It starts while the model thinks about the lost one, and ends with the session if no cell comes."""
    async with open_test_session() as session:
        first = events.of(SandboxStarted)[0].container
        engine.kill(first)
        assert (await run(session, "1")).ename == "SandboxLost"
        mine = {"label": [f"{LABEL}.owner={owner()}"]}
        async with asyncio.timeout(20):
            while not [found for found in engine.containers(filters=mine) if found["Id"] != first]:
                await asyncio.sleep(0.05)
    assert len(events.of(SandboxStarted)) == 1


async def test_a_frozen_container_is_replaced(
    open_test_session: OpenSession,
    engine: docker.APIClient,
    events: Events,
    carrier: Carrier,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A container that answers nothing at all costs no result its time, and is left after the last step's deadline."""
    monkeypatch.setattr(start, "RELAY_DEADLINE", 1.0)
    async with open_test_session(cell_timeout=LIMIT, carrier=carrier) as session:
        await run(session, "kept = 1")
        engine.pause(events.of(SandboxStarted)[0].container)
        started = time.monotonic()
        result = await run(session, "kept = 2")
        assert time.monotonic() - started < ALLOWED
        assert (result.status, result.lost) == ("timed_out", ("kept",))
        result = await run(session, "print('kept' in globals(), context)")
        assert text(result) == "False context\n"
        assert result.files_lost
        assert not (await run(session, "1")).files_lost
    assert steps(events) == [*RESTART, "replace"]
    assert len(events.of(SandboxStarted)) == 2


async def test_a_relay_that_can_not_start_a_kernel(open_test_session: OpenSession, events: Events) -> None:
    """A container that is taken the means to start a kernel anew is left."""
    async with open_test_session(cell_timeout=LIMIT) as session:
        await run(session, "kept = 1")
        code = "import resource, os\nresource.prlimit(1, resource.RLIMIT_NPROC, (0, 0))\nos._exit(1)"
        assert (await run(session, code)).lost == ("kept",)
        assert text(await run(session, "print(context)")) == "context\n"
    assert [event.generation for event in events.of(KernelReady)][-1] == 2
    assert len(events.of(SandboxStarted)) == 2


async def test_a_session_is_not_replaced_for_ever(
    open_test_session: OpenSession, engine: docker.APIClient, events: Events
) -> None:
    """Three sandboxes may be lost; with the next one the session ends."""
    async with open_test_session() as session:
        for _ in range(3):
            engine.kill(events.of(SandboxStarted)[-1].container)
            assert (await run(session, "1")).ename == "SandboxLost"
            assert (await run(session, "1")).status == "ok"
        engine.kill(events.of(SandboxStarted)[-1].container)
        with pytest.raises(SandboxLost):
            await run(session, "1")


async def test_files_that_make_room_for_a_kernel_are_told(open_test_session: OpenSession, events: Events) -> None:
    """Where the new kernel needs the memory that files take, they go, and the next result says so, once."""
    async with open_test_session(memory=256 * MIB, tmp_size=200 * MIB) as session:
        result = await run(session, "open('/tmp/file', 'wb').write(bytes(120 * 2**20)); import os; os._exit(1)")
        assert result.status == "kernel_died"
        results = [await run(session, "import os; print(os.listdir('/tmp'))") for _ in range(2)]
        assert [(text(result), result.files_lost) for result in results] == [("[]\n", True), ("[]\n", False)]
    assert [event.emptied for event in events.of(KernelReady)] == [False, True]
