"""What is the same in each container of a seed, and the wall clock that a cell is given."""

from __future__ import annotations

import time
from dataclasses import replace

import docker
import pytest

from rlm_kernel.events import SandboxStarted
from rlm_kernel.sandbox.docker import DockerRuntime
from rlm_kernel.sandbox.spec import Carrier, SandboxSpec
from rlm_kernel.session import Session, SlotPool
from tests.docker.conftest import OpenSession
from tests.support.sinks import Events

CHANCE = """
import os, random, socket, subprocess, sys, threading
print(hash("x"), {"one", "two", "three", "four"}, random.random(), random.sample(range(1000), 5))
print(subprocess.run([sys.executable, "-c", "print(hash('x'))"], capture_output=True, text=True).stdout)
print(os.getcwd(), socket.gethostname(), sys.argv, dict(os.environ))
"""
THEN = 1_000_000_000.25
"""2001-09-09 01:46:40.25 in UTC."""


async def text(session: Session, code: str, clock: float | None = None) -> str:
    """Return what a cell printed, which ended well."""
    result = await session.run_cell(code, turn=1, clock=clock)
    assert result.status == "ok", result
    return "".join(str(output["text"]) for output in result.outputs if output["output_type"] == "stream")


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
async def test_a_seed_makes_chance_the_same(open_test_session: OpenSession, events: Events, seed: int) -> None:
    """Hashes, sets' orders and `random` are the same in two containers of a seed, in each one's next kernel too."""
    said = []
    for _ in range(2):
        async with open_test_session(seed=seed) as session:
            said.append(await text(session, CHANCE))
            killed = await session.run_cell("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", turn=1)
            assert killed.status == "kernel_died"
            said.append(await text(session, CHANCE))
    assert len(said) == 4
    assert len(set(said)) == 1
    assert [event.seed for event in events.of(SandboxStarted)] == [seed, seed]


async def test_without_a_seed_each_container_has_its_own(open_test_session: OpenSession, events: Events) -> None:
    """Two containers differ, the seeds that they got are recorded, and one of these makes the same again."""
    said = []
    for _ in range(2):
        async with open_test_session() as session:
            said.append(await text(session, CHANCE))
    first, second = events.of(SandboxStarted)
    assert first.seed is not None
    assert first.seed != second.seed
    assert said[0].splitlines()[0] != said[1].splitlines()[0]
    async with open_test_session(seed=first.seed) as session:
        assert await text(session, CHANCE) == said[0]


async def test_a_lost_container_is_followed_by_one_of_its_seed(
    open_test_session: OpenSession, engine: docker.APIClient, events: Events
) -> None:
    """A session has one seed, also where its container is replaced."""
    async with open_test_session() as session:
        first = await text(session, CHANCE)
        engine.kill(events.of(SandboxStarted)[0].container)
        assert (await session.run_cell("1", turn=1)).ename == "SandboxLost"
        assert await text(session, CHANCE) == first
    seeds = [event.seed for event in events.of(SandboxStarted)]
    assert seeds == [seeds[0]] * 2
    assert seeds[0] is not None


async def test_a_pinned_seed_is_not_served_by_a_waiting_container(
    runtime: DockerRuntime, sandbox_spec: SandboxSpec
) -> None:
    """Each container of a pool has a seed of its own; who wants a certain one gets a new container."""
    async with SlotPool(runtime, sandbox_spec, 1) as slots:
        await slots.filled()
        pinned = await slots.take(replace(sandbox_spec, seed=7))
        waiting = await slots.take(sandbox_spec)
        assert pinned.sandbox.seed == 7
        assert waiting.sandbox.seed not in (None, 7)


async def test_what_is_installed_is_recorded(open_test_session: OpenSession, events: Events) -> None:
    """It is what Python itself finds there, its own version included."""
    code = """
    import importlib.metadata, platform
    found = {each.name.lower().replace("_", "-"): each.version for each in importlib.metadata.distributions()}
    print(sorted({**found, "python": platform.python_version()}.items()))
    """
    async with open_test_session() as session:
        shown = await text(session, code)
    (started,) = events.of(SandboxStarted)
    assert shown == f"{sorted(started.packages.items())}\n"
    assert {"python", "ipykernel", "pyzmq"} <= started.packages.keys()


FROM_BEFORE = """
import asyncio, datetime as module, threading, time, uuid
from datetime import date, datetime, timezone
from time import asctime, ctime, gmtime, localtime, monotonic, strftime, time as seconds, time_ns
"""
EVERY_WAY = """
print(int(seconds()), int(time.time()), time_ns() // 10**9, int(time.clock_gettime(time.CLOCK_REALTIME)))
print(date.today(), module.date.today())
for now in (datetime.now(), datetime.today(), datetime.utcnow(), datetime.now(timezone.utc), module.datetime.now()):
    print(now.isoformat()[:16])
print(gmtime()[:5], localtime()[:5], strftime("%F %R"), time.ctime()[:16], time.asctime()[:16])
print((uuid.uuid1().time - 0x01B21DD213814000) // 10**7)
"""
SHOWN = """\
1000000000 1000000000 1000000000 1000000000
2001-09-09 2001-09-09
2001-09-09T01:46
2001-09-09T01:46
2001-09-09T01:46
2001-09-09T01:46
2001-09-09T01:46
(2001, 9, 9, 1, 46) (2001, 9, 9, 1, 46) 2001-09-09 01:46 Sun Sep  9 01:46 Sun Sep  9 01:46
1000000000
"""
TICKING = """
before, monotonic_before = seconds(), monotonic()
time.sleep(0.2)
seen = []
thread = threading.Thread(target=lambda: (time.sleep(0.1), seen.append(datetime.now().year)))
thread.start()
thread.join()
await asyncio.gather(*(asyncio.sleep(0.2) for _ in range(3)))
try:
    await asyncio.wait_for(asyncio.Event().wait(), 0.1)
except TimeoutError:
    seen.append("timed out")
passed, ticked = monotonic() - monotonic_before, seconds() - before
print(seen, 0.6 < passed < 30, abs(ticked - passed) < 0.1)
"""


async def test_a_cell_has_the_clock_that_it_is_given(open_test_session: OpenSession, carrier: Carrier) -> None:
    """All that tells the time of day shows the instant, ticks on, and shows the real time again in the next cell."""
    async with open_test_session(carrier=carrier) as session:
        await text(session, FROM_BEFORE)
        assert await text(session, EVERY_WAY, THEN) == SHOWN
        assert await text(session, TICKING, THEN) == "[2001, 'timed out'] True True\n"
        later = await text(session, "print(seconds(), datetime.now().timestamp())", THEN + 3600.5)
        assert all(THEN + 3600.5 <= float(shown) < THEN + 3630 for shown in later.split())
        real = await text(session, "print(seconds(), time.mktime(time.strptime(time.ctime())))")
        assert all(abs(float(shown) - time.time()) < 30 for shown in real.split())


async def test_a_clock_stands_in_the_next_kernel_too(open_test_session: OpenSession) -> None:
    """A restart changes nothing; out of the years that Python knows, an instant that it does know is shown."""
    async with open_test_session() as session:
        await session.run_cell("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", turn=1, clock=THEN)
        year = "import datetime; print(datetime.datetime.now().year)"
        assert await text(session, year, THEN) == "2001\n"
        assert await text(session, year, -1e300) == "1970\n"
        assert await text(session, year, 1e300) == "9892\n"
