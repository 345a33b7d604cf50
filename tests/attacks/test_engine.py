"""Somebody else at the engine: containers that are frozen or removed under the session."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import docker
import docker.errors
import pytest

from rlm_kernel.errors import SandboxError
from rlm_kernel.events import SandboxStarted
from rlm_kernel.sandbox.spec import Carrier
from tests.attacks.conftest import assert_usable, run
from tests.docker.conftest import OpenSession
from tests.support.sinks import Events


@contextmanager
def removed_on(step: str, uid: int) -> Iterator[None]:
    """Remove the container of `uid` as soon as the engine tells of the given step of its life."""
    client = docker.APIClient()
    filters = {"container": f"rlm-kernel-{uid}", "event": step}
    stream = client.events(decode=True, filters=filters)

    def work() -> None:
        with suppress(StopIteration, docker.errors.APIError, OSError, ValueError):
            client.remove_container(next(stream)["id"], force=True)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stream.close()
        thread.join(10)
        client.close()


@pytest.mark.parametrize(("step", "uid"), [("create", 48_001), ("start", 48_002)])
async def test_removed_at_each_step(open_test_session: OpenSession, step: str, uid: int, carrier: Carrier) -> None:
    """A container that somebody removes while it starts is a typed error, within the start's deadline."""
    with removed_on(step, uid):
        started = time.monotonic()
        with pytest.raises(SandboxError):
            async with open_test_session(first_uid=uid, last_uid=uid, carrier=carrier, start_timeout=5) as session:
                await run(session, "import time; time.sleep(20)")
        assert time.monotonic() - started < 12


async def test_removed_in_use(
    open_test_session: OpenSession, engine: docker.APIClient, events: Events, carrier: Carrier
) -> None:
    """Removed between two cells, the session says so at the next one, and goes on in another container."""
    async with open_test_session(carrier=carrier) as session:
        await assert_usable(session)
        engine.remove_container(events.of(SandboxStarted)[0].container, force=True)
        assert (await run(session, "1")).ename == "SandboxLost"
        await assert_usable(session)


async def test_frozen_and_thawed(
    open_test_session: OpenSession, engine: docker.APIClient, events: Events, carrier: Carrier
) -> None:
    """A cell in a container that was frozen for a while goes on where it was."""
    async with open_test_session(carrier=carrier) as session:
        container = events.of(SandboxStarted)[0].container
        cell = asyncio.ensure_future(run(session, "import time; time.sleep(0.5); print('woke')"))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(engine.pause, container)
        await asyncio.sleep(1)
        assert not cell.done()
        await asyncio.to_thread(engine.unpause, container)
        assert (await cell).status == "ok"
        await assert_usable(session)


async def test_frozen_and_left(
    open_test_session: OpenSession, engine: docker.APIClient, events: Events, carrier: Carrier
) -> None:
    """A frozen container is removed when its session ends, without waiting for it."""
    started = 0.0
    with pytest.raises(TimeoutError):  # noqa: PT012 - the session may end the test at either line
        async with asyncio.timeout(6), open_test_session(carrier=carrier) as session:
            await asyncio.to_thread(engine.pause, events.of(SandboxStarted)[0].container)
            started = time.monotonic()
            async with asyncio.timeout(1):
                await run(session, "1")
    assert time.monotonic() - started < 5
