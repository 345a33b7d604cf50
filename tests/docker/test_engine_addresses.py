"""An engine that is reached over TCP, TLS or ssh, by address or by Docker context, with the attach carrier."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from rlm_kernel.errors import EngineUnavailable, SandboxError
from rlm_kernel.events import SandboxStarted
from rlm_kernel.sandbox.attach import attach
from rlm_kernel.sandbox.docker import DockerRuntime
from rlm_kernel.sandbox.engine import connect
from rlm_kernel.stream import Endpoint
from tests.docker.conftest import MIB, OpenSession
from tests.docker.test_sessions import Echo, run, text
from tests.support.engine_doors import SSHD, make_certificates, ssh_door, tcp_door
from tests.support.engine_proxy import ENGINE_SOCKET
from tests.support.sinks import Events

needs_sshd = pytest.mark.skipif(not SSHD.exists(), reason="there is no sshd: `make runtimes` installs it")


@pytest.fixture(autouse=True)
def no_engine_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing that this machine's user has set says where the engine is."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


@pytest.fixture
def certificates(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """A folder as DOCKER_CERT_PATH names one, and what a server needs to take its certificate."""
    folder = tmp_path / "certificates"
    return folder, make_certificates(folder)


def write_context(config: Path, host: str, certificates: Path | None = None) -> None:
    """Write the current Docker context `far`, with TLS material if it is given, as `docker context create` does."""
    folder = hashlib.sha256(b"far").hexdigest()
    meta = config / "contexts" / "meta" / folder
    meta.mkdir(parents=True)
    (config / "config.json").write_text(json.dumps({"currentContext": "far"}))
    endpoint = {"Host": host, "SkipTLSVerify": False}
    (meta / "meta.json").write_text(json.dumps({"Name": "far", "Metadata": {}, "Endpoints": {"docker": endpoint}}))
    if certificates is not None:
        material = config / "contexts" / "tls" / folder / "docker"
        material.mkdir(parents=True)
        for name in ("ca.pem", "cert.pem", "key.pem"):
            shutil.copy(certificates / name, material)


@asynccontextmanager
async def far_runtime(address: str | None = None) -> AsyncIterator[DockerRuntime]:
    """A runtime on the engine at `address`, closed in the end."""
    runtime = DockerRuntime(address)
    try:
        yield runtime
    finally:
        await runtime.aclose()


async def assert_whole(open_test_session: OpenSession, runtime: DockerRuntime, events: Events) -> None:
    """Run a session that needs everything of the stream, with more in each direction than one buffer holds."""
    context = "x" * (3 * MIB)
    async with open_test_session(context, models={None: Echo()}, engine=runtime) as session:
        code = "print(len(context), llm_query('a'), 'y' * 900_000)"
        assert text(await run(session, code)) == f"{len(context)} A {'y' * 900_000}\n"
        assert (await run(session, "import os; os._exit(1)")).ename == "KernelDied"
        assert text(await run(session, "print(len(context))")) == f"{len(context)}\n"
    assert events.of(SandboxStarted)[0].carrier == "attach"


async def test_plain_tcp(open_test_session: OpenSession, events: Events) -> None:
    """With tcp:// the stream goes over a connection of its own to the same port."""
    async with tcp_door() as door, far_runtime(f"tcp://{door}") as runtime:
        await assert_whole(open_test_session, runtime, events)


async def test_tls_from_the_environment(
    open_test_session: OpenSession,
    events: Events,
    certificates: tuple[Path, ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DOCKER_HOST, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH mean to the stream what they mean to every other call."""
    folder, tls = certificates
    async with tcp_door(tls) as door:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://{door}")
        monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
        monkeypatch.setenv("DOCKER_CERT_PATH", str(folder))
        async with far_runtime() as runtime:
            await assert_whole(open_test_session, runtime, events)


async def test_tls_with_the_address_as_a_setting(
    open_test_session: OpenSession,
    events: Events,
    certificates: tuple[Path, ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The variables for TLS hold for an engine that is named by the setting too."""
    folder, tls = certificates
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(folder))
    async with tcp_door(tls) as door, far_runtime(f"tcp://{door}") as runtime:
        await assert_whole(open_test_session, runtime, events)


async def test_a_context_with_tls(
    open_test_session: OpenSession,
    events: Events,
    certificates: tuple[Path, ssl.SSLContext],
    tmp_path: Path,
) -> None:
    """A Docker context brings its address and its certificates."""
    folder, tls = certificates
    async with tcp_door(tls) as door:
        write_context(tmp_path / "docker", f"tcp://{door}", folder)
        async with far_runtime() as runtime:
            await assert_whole(open_test_session, runtime, events)


async def test_a_stranger_on_the_way_is_refused(
    open_test_session: OpenSession,
    certificates: tuple[Path, ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A server whose certificate another authority has signed gets no request."""
    make_certificates(tmp_path / "other")
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path / "other"))
    async with tcp_door(certificates[1]) as door, far_runtime(f"tcp://{door}") as runtime:
        with pytest.raises(EngineUnavailable, match=r"(?i)certificate"):
            async with open_test_session(engine=runtime):
                pass


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An sshd, and an `ssh` that knows it; its ssh:// address."""
    with ssh_door(tmp_path / "ssh") as where:
        monkeypatch.setenv("PATH", f"{tmp_path / 'ssh' / 'bin'}:{os.environ['PATH']}")
        yield f"ssh://{where}"
        children = [child.name() for child in psutil.Process().children(recursive=False)]
        assert "ssh" not in children


@needs_sshd
async def test_ssh(open_test_session: OpenSession, events: Events, ssh: str) -> None:
    """With ssh:// everything goes through one `ssh` of this user's, and no process of it is left."""
    async with far_runtime(ssh) as runtime:
        await assert_whole(open_test_session, runtime, events)
        assert [child.name() for child in psutil.Process().children()].count("ssh") == 1


@needs_sshd
async def test_a_context_with_ssh(open_test_session: OpenSession, events: Events, ssh: str, tmp_path: Path) -> None:
    """A Docker context may name an ssh:// address, with the path of the engine's socket."""
    write_context(tmp_path / "docker", f"{ssh}{ENGINE_SOCKET}")
    async with far_runtime() as runtime:
        await assert_whole(open_test_session, runtime, events)


@needs_sshd
async def test_what_ssh_says_is_passed_on(ssh: str, tmp_path: Path) -> None:
    """A host key that is not known, a host that can't be found and a missing socket are errors in ssh's own words."""
    (tmp_path / "ssh" / "known").write_text("")
    with pytest.raises(EngineUnavailable, match="Host key verification failed"):
        connect(ssh)
    with pytest.raises(EngineUnavailable, match="ssh said"):
        connect("ssh://127.0.0.1:1")


@needs_sshd
async def test_no_engine_behind_ssh(ssh: str) -> None:
    """Where ssh works and no engine is behind it, the error says so, and the `ssh` is gone."""
    with pytest.raises(EngineUnavailable, match="no container engine answers at ssh://"):
        connect(f"{ssh}/nowhere.sock")


async def test_no_ssh_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without an `ssh` program says so."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineUnavailable, match="ssh"):
        connect("ssh://somewhere")


@needs_sshd
def test_ssh_ends_with_a_killed_host(ssh: str) -> None:
    """After `kill -9` of the host its `ssh` goes by itself."""
    code = (
        "import sys; from rlm_kernel.sandbox.engine import connect; connect(sys.argv[1]); print('up'); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-u", "-c", code, ssh], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == b"up\n"
        children = psutil.Process(host.pid).children(recursive=True)
        assert [child.name() for child in children] == ["ssh"]
        host.kill()
        _, alive = psutil.wait_procs(children, timeout=20)
    assert [child for child in alive if child.status() != psutil.STATUS_ZOMBIE] == []


async def test_an_attach_that_is_refused_leaves_no_connection() -> None:
    """A container that is not there is the engine's own words, and the connection is closed."""
    client = connect()
    try:
        with pytest.raises(SandboxError, match=r"refused to attach to the container: HTTP/1\.1 404"):
            await attach(client, "rlm-kernel-none", Endpoint())
    finally:
        client.close()
