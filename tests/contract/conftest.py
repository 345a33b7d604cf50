"""What promises are kept on: the engines and OCI runtimes that this machine has, and a provider that runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

from rlm_kernel.models.model import Model
from rlm_kernel.sandbox.docker import DockerRuntime
from rlm_kernel.sandbox.engine import connect
from rlm_kernel.sandbox.image import ensure_image
from rlm_kernel.sandbox.spec import Carrier
from tests.docker.conftest import events, open_test_session, sandbox_spec, watched
from tests.support.provider_server import ProviderServer
from tests.support.runtimes import KINDS, missing, podman_as_root

__all__ = ["events", "open_test_session", "sandbox_spec"]

MakeModel = Callable[..., Model]

MINUTES_MATTER = {
    "test_state_lives_on_between_cells",
    "test_an_error_is_a_value",
    "test_a_json_value_is_itself",
    "test_a_failed_sub_call_is_an_exception",
    "test_an_error_inside_leaves_nothing",
    "test_a_flood_of_output_is_cut",
}
"""What an engine and its runtime have little to do with: on others than the default this waits for `make soak`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave what takes long, and tells little, to `make soak`."""
    for item in items:
        named = isinstance(item, pytest.Function) and item.originalname in MINUTES_MATTER
        if named and "docker-runc" not in item.name:
            item.add_marker(pytest.mark.soak)


@dataclass(frozen=True, slots=True)
class Place:
    """Where sessions run: an engine's address, an OCI runtime of it, and a client of the same engine."""

    kind: str
    address: str | None
    oci_runtime: str | None
    client: docker.APIClient


@pytest.fixture(scope="session")
def image() -> str:
    """The sandbox image, built by Docker if it is missing."""
    client = connect()
    try:
        return ensure_image(client, progress=lambda line: None)
    finally:
        client.close()


@pytest.fixture(scope="session")
def podman(image: str) -> Iterator[str]:
    """The address of a Podman that runs as root and has the sandbox image."""
    with podman_as_root() as address:
        yield address


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, image: str) -> Iterator[Place]:
    """Each kind in turn."""
    kind: str = request.param
    if reason := missing(kind):
        pytest.skip(reason)
    address = request.getfixturevalue("podman") if kind == "podman-runc" else None
    with ExitStack() as stack:
        client = connect(address)
        stack.callback(client.close)
        yield Place(kind, address, "runsc" if kind == "docker-runsc" else None, client)


@pytest.fixture
def engine(place: Place) -> docker.APIClient:
    """A client of the engine that the place is on."""
    return place.client


@pytest.fixture
async def nothing_left(engine: docker.APIClient, tmp_path: Path) -> AsyncIterator[None]:
    """Watch a test."""
    async with watched(engine, tmp_path):
        yield


@pytest.fixture
async def runtime(place: Place) -> AsyncIterator[DockerRuntime]:
    """The runtime under test."""
    runtime = DockerRuntime(place.address, oci_runtime=place.oci_runtime)
    yield runtime
    await runtime.aclose()


@pytest.fixture(params=["socket", "attach"])
def carrier(request: pytest.FixtureRequest) -> Carrier:
    """Each carrier in turn."""
    name: Carrier = request.param
    return name


@pytest.fixture
async def server() -> AsyncIterator[ProviderServer]:
    """A provider that runs."""
    async with ProviderServer().run() as server:
        yield server


@pytest.fixture
async def model(make_model: MakeModel, server: ProviderServer) -> AsyncIterator[Model]:
    """A client of the running provider."""
    async with aclosing(make_model(server.url)) as model:
        yield model
