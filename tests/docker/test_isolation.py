"""What a session's container may do, as the engine says it and as code inside finds it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest

from rlm_kernel.errors import EngineTimeout, ImageMissing, SandboxError, SandboxRefused
from rlm_kernel.events import SandboxStarted
from rlm_kernel.sandbox.container import Container
from rlm_kernel.sandbox.docker import DockerRuntime
from rlm_kernel.sandbox.spec import Carrier, SandboxSpec
from tests.docker.conftest import MIB, OpenSession
from tests.support.engine_proxy import weakened_engine
from tests.support.sinks import Events


async def test_nothing_of_the_host_is_in_the_environment(
    open_test_session: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither keys nor any other variable of the host gets into the container."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-do-not-leak")
    async with open_test_session() as session:
        result = await session.run_cell("import os; print(dict(os.environ))", turn=1)
    text = str(result.outputs[0]["text"])
    assert "sk-do-not-leak" not in text
    assert "OPENAI" not in text


async def test_the_engine_shows_every_limit(
    open_test_session: OpenSession, engine: docker.APIClient, events: Events, carrier: Carrier
) -> None:
    """`docker inspect` of a live session shows each limit as it was asked for."""
    async with open_test_session(carrier=carrier):
        started = events.of(SandboxStarted)[0]
        inspected = engine.inspect_container(started.container)
        host, config = inspected["HostConfig"], inspected["Config"]
        assert host["NetworkMode"] == "none"
        assert host["CapDrop"] == ["ALL"]
        assert not host["CapAdd"]
        assert not host["Privileged"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["ReadonlyRootfs"]
        assert host["AutoRemove"]
        assert host["LogConfig"]["Type"] == "none"
        assert (host["Memory"], host["MemorySwap"]) == (512 * MIB, 512 * MIB)
        assert (host["NanoCpus"], host["PidsLimit"]) == (1_500_000_000, 128)
        assert {"Name": "nofile", "Soft": 512, "Hard": 512} in host["Ulimits"]
        assert set(host["Tmpfs"]) == {"/tmp", "/run/rlm-guest", "/var/tmp"}
        assert host["Tmpfs"]["/var/tmp"].startswith("ro,")
        assert host["ShmSize"] == 16 * MIB
        assert not host.get("Init")
        assert config["User"] == f"{started.uid}:{started.uid}"
        assert config["Labels"]["io.rlm-kernel"] == "session"
        mounts = [(mount["Destination"], mount["RW"]) for mount in inspected["Mounts"] if mount["Type"] == "bind"]
        assert mounts == ([("/run/rlm", False)] if carrier == "socket" else [])


async def test_every_session_has_a_uid_of_its_own(open_test_session: OpenSession, events: Events) -> None:
    """Two live sessions never share a uid; in a range of two, a third session is refused with the way out."""
    limits: dict[str, Any] = {"first_uid": 47_001, "last_uid": 47_002}
    async with open_test_session(**limits), open_test_session(**limits):
        assert {event.uid for event in events.of(SandboxStarted)} == {47_001, 47_002}
        with pytest.raises(SandboxError, match="no free uid from 47001 to 47002"):
            async with open_test_session(**limits):
                pass


@pytest.mark.parametrize(("first", "last"), [(0, 10), (65_534, 65_534), (900, 70_000), (5000, 4000)])
async def test_root_and_nobody_are_refused(open_test_session: OpenSession, first: int, last: int) -> None:
    """A range that holds root, system users or nobody starts nothing."""
    with pytest.raises(SandboxRefused, match="uid range"):
        async with open_test_session(first_uid=first, last_uid=last):
            pass


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"ReadonlyRootfs": False}, "root file system"),
        ({"CapDrop": []}, "capabilities"),
        ({"SecurityOpt": []}, "no_new_privs"),
        ({"SecurityOpt": ["no-new-privileges:true", "seccomp=unconfined"]}, "seccomp"),
        ({"NetworkMode": "host"}, "network"),
        ({"Memory": 0, "MemorySwap": 0}, "memory"),
        ({"NanoCpus": 0}, "cpu"),
        ({"PidsLimit": 0}, "pids"),
        ({"Ulimits": []}, "open files"),
        ({"Tmpfs": {"/run/rlm-guest": "rw,mode=1777"}}, "/tmp"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value,
)
async def test_an_engine_that_does_not_deliver_is_refused(
    open_test_session: OpenSession, change: dict[str, Any], named: str, tmp_path: Path
) -> None:
    """When a limit is not in force inside, whatever the engine was told, nothing runs and the error names the limit."""
    async with weakened_engine(tmp_path / "engine", change) as address:
        weak = DockerRuntime(address)
        with pytest.raises(SandboxRefused, match=named):
            async with open_test_session(engine=weak):
                pass
        await weak.aclose()


async def test_a_missing_image_says_how_to_build_it(open_test_session: OpenSession) -> None:
    """Without the image there is a clear error, and nothing is left."""
    with pytest.raises(ImageMissing, match="rlm-kernel image build"):
        async with open_test_session(image="rlm-kernel-sandbox:missing"):
            pass


@pytest.mark.parametrize("limit", [{"nofile": 8}, {"pids": 1}], ids=lambda limit: next(iter(limit)))
async def test_a_container_that_ends_at_once(
    open_test_session: OpenSession, carrier: Carrier, limit: dict[str, Any]
) -> None:
    """A container whose limits are too small to start in is a typed error within seconds, not a long wait."""
    started = time.monotonic()
    with pytest.raises(SandboxError):
        async with open_test_session("", carrier=carrier, **limit):
            pass
    assert time.monotonic() - started < 20


async def test_a_container_that_never_calls_back(
    open_test_session: OpenSession, engine: docker.APIClient, image: str, carrier: Carrier
) -> None:
    """An image without our guest costs the start deadline and no more, and the error says what to do."""
    silent = "rlm-kernel-test:silent"
    container = engine.create_container(image, command=[], entrypoint=["sleep", "1000"])
    engine.commit(container, "rlm-kernel-test", "silent", conf={"Entrypoint": ["sleep", "1000"]})
    engine.remove_container(container)
    try:
        with pytest.raises(EngineTimeout, match="image build --rebuild"):
            async with open_test_session(image=silent, carrier=carrier, start_timeout=5.0):
                pass
    finally:
        engine.remove_image(silent, force=True)


def test_a_container_whose_id_was_never_told_is_removed(engine: docker.APIClient, sandbox_spec: SandboxSpec) -> None:
    """A container that the engine made in a call that timed out is found by its label and removed."""
    container = Container(sandbox_spec, "attach")
    container.create(engine)
    made, container.id = container.id, ""
    container.remove(engine)
    with pytest.raises(docker.errors.NotFound):
        engine.inspect_container(made)
