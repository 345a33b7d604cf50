"""The warm pool on the real engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from rlm_kernel.events import KernelReady, SandboxStarted
from rlm_kernel.kernel import CellResult
from rlm_kernel.sandbox.container import LABEL
from rlm_kernel.sandbox.contexts import ContextStore
from rlm_kernel.sandbox.docker import DockerRuntime
from rlm_kernel.sandbox.owner import owner
from rlm_kernel.sandbox.spec import Carrier, SandboxSpec
from rlm_kernel.session import Session, SessionSpec, SlotPool, open_session
from tests.support.fakes import FakeModel
from tests.support.sinks import Events

PROBE = """
import gc, os, sys, threading
FINAL({
    "names": sorted(name for name in globals() if not name.startswith("_")),
    "environment": {name: value for name, value in os.environ.items() if not name.startswith(("HOSTNAME", "RLM"))},
    "folders": {path: sorted(os.listdir(path)) for path in ("/tmp", "/dev/shm", "/run", os.getcwd())},
    "shared": sorted(os.listdir("/run/rlm")) if os.path.isdir("/run/rlm") else None,
    "processes": len([pid for pid in os.listdir("/proc") if pid.isdigit()]),
    "threads": sorted(thread.name.rstrip("0123456789") for thread in threading.enumerate()),
    "descriptors": len(os.listdir("/proc/self/fd")),
    "modules": len(sys.modules),
    "frozen": gc.get_freeze_count() > 0,
    "reply": llm_query("hello"),
    "context": context,
})
"""


@asynccontextmanager
async def bound(
    slots: SlotPool, store: ContextStore, spec: SandboxSpec, events: Events, text: str
) -> AsyncIterator[Session]:
    """Open a session on `text`."""
    session_spec = SessionSpec(
        sandbox=spec, context=store.put_value(text), models={None: FakeModel(["world"])}, cell_timeout=30
    )
    async with open_session(slots, session_spec, events) as session:
        yield session


@pytest.fixture
def store(tmp_path: Path) -> ContextStore:
    """A content store."""
    return ContextStore(tmp_path / "contexts")


async def test_a_session_from_the_pool_is_like_a_cold_one(
    runtime: DockerRuntime, sandbox_spec: SandboxSpec, store: ContextStore, carrier: Carrier
) -> None:
    """What a cell can see, what is recorded, and what the engine knows is the same for both."""
    spec = replace(sandbox_spec, carrier=carrier, seed=7)
    seen: list[tuple[CellResult, list[str], SandboxStarted, KernelReady]] = []
    for size in (0, 1):
        events = Events()
        async with SlotPool(runtime, spec, size) as slots:
            await slots.filled()
            async with bound(slots, store, spec, events, "the text") as session:
                result = await session.run_cell(PROBE, turn=1)
        names = [type(event).__name__ for event in events.all]
        seen.append((result, names, events.of(SandboxStarted)[0], events.of(KernelReady)[0]))
    (cold, cold_names, cold_sandbox, cold_ready), (warm, warm_names, warm_sandbox, warm_ready) = seen
    assert cold.final is not None
    assert cold.final == warm.final
    assert (cold_names, cold_ready) == (warm_names, warm_ready)
    assert cold.execution_count == warm.execution_count

    def alike(started: SandboxStarted) -> dict[str, Any]:
        own = {"container", "uid", "seen"}
        return {name: getattr(started, name) for name in started.__struct_fields__ if name not in own} | {
            "seen": {name: value for name, value in started.seen.items() if name not in ("uid", "gid", "groups")}
        }

    assert json.dumps(alike(cold_sandbox), sort_keys=True) == json.dumps(alike(warm_sandbox), sort_keys=True).replace(
        str(warm_sandbox.uid), str(cold_sandbox.uid)
    )


async def test_nothing_of_a_session_is_in_its_container_before_it(
    runtime: DockerRuntime, sandbox_spec: SandboxSpec, store: ContextStore, events: Events, engine: docker.APIClient
) -> None:
    """Who inspects a container, waiting or bound, learns nothing of its session's data."""
    async with SlotPool(runtime, sandbox_spec, 1) as slots:
        await slots.filled()
        (waiting,) = engine.containers(filters={"label": [f"{LABEL}.owner={owner()}"]})
        before = engine.inspect_container(waiting["Id"])
        async with bound(slots, store, sandbox_spec, events, "a secret text") as session:
            assert (await session.run_cell("print(context)", turn=1)).status == "ok"
            assert events.of(SandboxStarted)[0].container == waiting["Id"]
            after = engine.inspect_container(waiting["Id"])
            for part in ("Config", "HostConfig", "Mounts", "Name"):
                assert before[part] == after[part]
            assert "secret" not in json.dumps(after)


async def test_no_container_serves_twice(
    runtime: DockerRuntime, sandbox_spec: SandboxSpec, store: ContextStore, events: Events
) -> None:
    """Sessions one after another and at the same time have containers and uids of their own."""
    async with SlotPool(runtime, sandbox_spec, 2) as slots:

        async def one(number: int) -> None:
            async with bound(slots, store, sandbox_spec, events, f"text {number}") as session:
                result = await session.run_cell("FINAL(context)", turn=1)
                assert result.final is not None
                assert result.final.value == f"text {number}"

        for number in range(2):
            await one(number)
        async with asyncio.TaskGroup() as tasks:
            for number in range(2, 5):
                tasks.create_task(one(number))
    started = events.of(SandboxStarted)
    assert len({event.container for event in started}) == 5
    assert len({event.uid for event in started}) == 5


@pytest.mark.parametrize("harm", ["kill", "pause"])
async def test_a_harmed_container_is_not_given_out(
    runtime: DockerRuntime,
    sandbox_spec: SandboxSpec,
    store: ContextStore,
    events: Events,
    engine: docker.APIClient,
    harm: str,
) -> None:
    """A container that was killed or frozen while it waited is replaced, and the next session has a sound one."""
    async with SlotPool(runtime, sandbox_spec, 1) as slots:
        await slots.filled()
        (waiting,) = engine.containers(filters={"label": [f"{LABEL}.owner={owner()}"]})
        getattr(engine, harm)(waiting["Id"])
        async with bound(slots, store, sandbox_spec, events, "text") as session:
            assert (await session.run_cell("1", turn=1)).status == "ok"
        assert events.of(SandboxStarted)[0].container != waiting["Id"]


async def test_a_pool_that_is_left_at_once_leaves_nothing(runtime: DockerRuntime, sandbox_spec: SandboxSpec) -> None:
    """Containers that are still starting go too; the fixture that watches what is left sees to the rest."""
    async with SlotPool(runtime, sandbox_spec, 2):
        await asyncio.sleep(0.05)
