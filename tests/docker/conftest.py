"""Fixtures around the real engine: the image, a runtime, sessions, and a watch for what is left behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import docker
import docker.errors
import pytest

from rlm_kernel.assembly.contexts import Context, store_context
from rlm_kernel.models.model import Model
from rlm_kernel.sandbox.container import LABEL
from rlm_kernel.sandbox.contexts import ContextStore
from rlm_kernel.sandbox.docker import DockerRuntime
from rlm_kernel.sandbox.engine import connect
from rlm_kernel.sandbox.image import ensure_image
from rlm_kernel.sandbox.owner import owner
from rlm_kernel.sandbox.spec import Carrier, SandboxSpec
from rlm_kernel.session import Session, SessionSpec, SlotPool, open_session
from rlm_kernel.tools import Toolbox
from tests.support.fakes import FakeModel
from tests.support.sinks import Events

MIB = 1024 * 1024


class OpenSession(Protocol):
    """Opens a session on the real engine, or on another one; `limits` change the sandbox's spec."""

    def __call__(
        self,
        context: Context = "context",
        *,
        models: Mapping[str | None, Model] | None = None,
        cell_timeout: float = 60,
        rebuild: bool = False,
        engine: DockerRuntime | None = None,
        tools: Toolbox | None = None,
        **limits: Any,
    ) -> AbstractAsyncContextManager[Session]: ...


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.APIClient]:
    """A client of the engine that tests use."""
    client = connect()
    yield client
    client.close()


@pytest.fixture(scope="session")
def image(engine: docker.APIClient) -> str:
    """The sandbox image, built if it is missing."""
    return ensure_image(engine, progress=lambda line: None)


@pytest.fixture
def events() -> Events:
    """What happened."""
    return Events()


@pytest.fixture
async def runtime() -> AsyncIterator[DockerRuntime]:
    """The runtime under test."""
    runtime = DockerRuntime()
    yield runtime
    await runtime.aclose()


@pytest.fixture(params=["socket", "attach"])
def carrier(request: pytest.FixtureRequest) -> Carrier:
    """Each carrier in turn."""
    name: Carrier = request.param
    return name


@pytest.fixture
def sandbox_spec(image: str, tmp_path: Path) -> SandboxSpec:
    """A spec with the limits that most tests need."""
    return SandboxSpec(
        image=image,
        folder=tmp_path / "sessions",
        memory=512 * MIB,
        cpus=1.5,
        pids=128,
        nofile=512,
        tmp_size=32 * MIB,
        first_uid=40_000,
        last_uid=49_999,
    )


@pytest.fixture
def open_test_session(runtime: DockerRuntime, sandbox_spec: SandboxSpec, events: Events, tmp_path: Path) -> OpenSession:
    """A function that opens a session; `limits` change the sandbox's spec."""
    store = ContextStore(tmp_path / "contexts")

    @asynccontextmanager
    async def open_one(
        context: Context = "context",
        *,
        models: Mapping[str | None, Model] | None = None,
        cell_timeout: float = 60,
        rebuild: bool = False,
        engine: DockerRuntime | None = None,
        tools: Toolbox | None = None,
        **limits: Any,
    ) -> AsyncIterator[Session]:
        spec = SessionSpec(
            sandbox=replace(sandbox_spec, **limits),
            context=await store_context(store, context, sandbox_spec.memory),
            models=models or {None: FakeModel([])},
            cell_timeout=cell_timeout,
            rebuild=rebuild,
            tools=tools or Toolbox(),
        )
        async with (
            SlotPool(engine or runtime, spec.sandbox) as slots,
            open_session(slots, spec, events) as session,
        ):
            yield session

    return open_one


@pytest.fixture(autouse=True)
async def nothing_left(engine: docker.APIClient, tmp_path: Path) -> AsyncIterator[None]:
    """Watch every test."""
    async with watched(engine, tmp_path):
        yield


@asynccontextmanager
async def watched(engine: docker.APIClient, tmp_path: Path) -> AsyncIterator[None]:
    """After the block: no container that this process started, no session folder, no task, no descriptor more."""
    before = _open_files()
    yield
    gc.collect()
    left = engine.containers(all=True, filters={"label": [f"{LABEL}.owner={owner()}"]})
    assert [container for container in left if _is_there(engine, container["Id"])] == []
    sessions = tmp_path / "sessions"
    assert not sessions.exists() or list(sessions.iterdir()) == []
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
    assert _open_files() <= before + 8


def _is_there(engine: docker.APIClient, container: str) -> bool:
    """Podman lists a container for a moment longer than it has it."""
    try:
        engine.inspect_container(container)
    except docker.errors.NotFound:
        return False
    return True


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
