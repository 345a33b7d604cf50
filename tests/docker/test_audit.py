"""The audit's programs in containers that are really weaker: each barrier that is taken away is missed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import msgspec
import pytest

from rlm_kernel.audit import Report, Subject, audit
from rlm_kernel.audit.claims import Finding, Scene
from rlm_kernel.audit.escapes import ESCAPES, WAYS, Attempts
from rlm_kernel.audit.inside import INSIDE, Inside
from rlm_kernel.audit.inspected import CIS
from rlm_kernel.audit.programs import program
from rlm_kernel.errors import EngineUnavailable, ImageMissing
from rlm_kernel.sandbox.container import Container
from rlm_kernel.sandbox.contexts import ContextStore
from rlm_kernel.sandbox.docker import DockerRuntime
from rlm_kernel.sandbox.engine import Engine, connect
from rlm_kernel.sandbox.spec import SandboxSpec
from tests.support.engine_proxy import ENGINE_SOCKET, weakened_engine

Model = dict[str, Any]
CLOSED = "from rlm_guest.doors import close_doors\nclose_doors()"


@pytest.fixture
def model(engine: docker.APIClient, sandbox_spec: SandboxSpec) -> Model:
    """What the engine says of a session's container, from which others are made."""
    container = Container(sandbox_spec, "attach")
    container.create(engine)
    inspected: Model = engine.inspect_container(container.id)
    container.remove(engine)
    return inspected


class Weak:
    """Runs the audit's programs in containers like the model but for some changes."""

    def __init__(self, engine: docker.APIClient, model: Model, spec: SandboxSpec) -> None:
        self._engine = engine
        self._model = model
        uid = int(model["Config"]["User"].partition(":")[0])
        self.scene = Scene(spec=spec, uid=uid, oci_runtime=model["HostConfig"]["Runtime"])

    def findings(self, host: Model, *, doors: str = CLOSED, **config: Any) -> dict[str, Finding]:
        """Return what the audit finds, by claim; `doors` is the code with which the guest begins."""
        found = list(INSIDE.judge(msgspec.json.decode(self._run("probe", "", host, config), type=Inside), self.scene))
        attempts = msgspec.json.decode(self._run("escapes", doors, host, config), type=Attempts)
        assert {group: len(tried) for group, tried in attempts.items()} == {
            group: way.attempts for group, way in WAYS.items()
        }
        found += [*ESCAPES.judge(attempts, self.scene), *CIS.judge(self._inspected, self.scene)]
        return {finding.claim: finding for finding in found}

    def _run(self, name: str, doors: str, host: Model, config: Model) -> bytes:
        whole = {
            "Image": self._model["Config"]["Image"],
            "User": self._model["Config"]["User"],
            "Env": self._model["Config"]["Env"],
            "Hostname": "sandbox",
            "Entrypoint": ["python3", "-c", f"{doors}\n{program(name)}"],
            "HostConfig": self._model["HostConfig"]
            | {"AutoRemove": False, "LogConfig": {"Type": "json-file"}, "Mounts": []}
            | host,
        }
        created = self._engine.create_container_from_config(whole | config)  # type: ignore[no-untyped-call]
        try:
            self._engine.start(created["Id"])
            self._inspected = self._engine.inspect_container(created["Id"])
            self._engine.wait(created["Id"])
            said: bytes = self._engine.logs(created["Id"])
        finally:
            self._engine.remove_container(created["Id"], force=True)
        return said


@pytest.fixture
def weak(model: Model, sandbox_spec: SandboxSpec) -> Iterator[Weak]:
    """A way to run the audit's programs in a weaker container."""
    client = connect()
    yield Weak(client, model, sandbox_spec)
    client.close()


OURS = {"cis.5.15", "log-driver", "escape.relay"}
"""What fails in every one of these containers: they are to be read afterwards, and the program itself is PID 1."""


def failed(findings: dict[str, Finding]) -> set[str]:
    """Return the claims that fail because of the change."""
    return {claim for claim, finding in findings.items() if finding.verdict == "fail"} - OURS


async def test_the_same_container_passes(weak: Weak) -> None:
    """Without any change the programs find no failure outside of a session either."""
    found = weak.findings({})
    assert failed(found) == set()
    assert {found[claim].verdict for claim in OURS} == {"fail"}


@pytest.mark.parametrize(
    ("host", "claims"),
    [
        ({"ReadonlyRootfs": False}, {"inside.writable", "cis.5.13"}),
        ({"CapDrop": []}, {"inside.capabilities", "cis.5.4"}),
        ({"SecurityOpt": []}, {"inside.no-new-privileges", "cis.5.26"}),
        (
            {"SecurityOpt": ["no-new-privileges:true", "seccomp=unconfined"]},
            {"inside.seccomp", "escape.kernel", "escape.namespaces", "cis.5.22"},
        ),
        ({"MaskedPaths": [], "ReadonlyPaths": []}, {"inside.masks"}),
        ({"NetworkMode": "bridge"}, {"inside.network", "cis.5.10"}),
        (
            {"PidMode": "host"},  # what is read of PID 1 is then the machine's
            {"inside.processes", "inside.no-new-privileges", "inside.seccomp", "cis.5.16"},
        ),
        (
            {"Devices": [{"PathOnHost": "/dev/loop-control", "PathInContainer": "/dev/sda", "CgroupPermissions": "r"}]},
            {"inside.devices", "cis.5.18"},
        ),
        ({"Tmpfs": {"/data": "rw"}}, {"inside.writable"}),
        ({"Binds": ["/etc:/host:ro"]}, {"inside.mounts", "cis.5.6"}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
async def test_a_barrier_that_is_missing(weak: Weak, host: Model, claims: set[str]) -> None:
    """Each barrier taken away on a real engine fails the claims about it, and no others."""
    assert failed(weak.findings(host)) == claims


async def test_open_doors(weak: Weak) -> None:
    """Without the guest's own filter, and without the engine's, io_uring is open, which the audit sees."""
    unfiltered = {"SecurityOpt": ["no-new-privileges:true", "seccomp=unconfined"]}
    assert "io_uring_setup" not in weak.findings(unfiltered)["escape.kernel"].seen
    assert "io_uring_setup" in weak.findings(unfiltered, doors="")["escape.kernel"].seen


async def test_a_variable_of_the_host(weak: Weak) -> None:
    """A variable that is not the image's own is named."""
    found = weak.findings({}, Env=["HTTP_PROXY=http://user:secret@proxy"])
    assert failed(found) == {"inside.environment"}
    assert found["inside.environment"].seen == "HTTP_PROXY"


async def test_a_container_with_many_rights(weak: Weak) -> None:
    """Root with capabilities, devices and the engine's socket is found by what it can do, not only by what is said."""
    host = {
        "Binds": [f"{ENGINE_SOCKET}:/var/run/docker.sock"],
        "CapAdd": ["SYS_ADMIN", "SYS_CHROOT", "SYS_PTRACE", "NET_ADMIN", "NET_RAW", "MKNOD", "SETUID", "SETGID"],
        "CapDrop": [],
        "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/kvm", "CgroupPermissions": "rwm"}],
        "MaskedPaths": [],
        "NetworkMode": "host",
        "ReadonlyPaths": [],
        "ReadonlyRootfs": False,
        "SecurityOpt": ["seccomp=unconfined"],
    }
    found = failed(weak.findings(host, User="0:0")) - {"inside.abstract-sockets"}  # the host may have none
    assert found == {
        *(f"inside.{name}" for name in ("user", "capabilities", "no-new-privileges", "seccomp", "writable", "mounts")),
        *(f"inside.{name}" for name in ("masks", "network", "devices")),
        *(f"escape.{name}" for name in ("mounts", "namespaces", "kernel", "sockets", "own-program", "cgroup", "knobs")),
        *(f"escape.{name}" for name in ("devices", "engine", "root")),
        *(f"cis.5.{number}" for number in (4, 6, 10, 13, 18, 22, 26, 32)),
    }


@pytest.fixture
def store(tmp_path: Path) -> ContextStore:
    """A content store of the test's own."""
    return ContextStore(tmp_path / "contexts")


async def run_audit(address: str | None, store: ContextStore, spec: SandboxSpec) -> Report:
    """Audit the engine at `address`."""
    runtime, engine = DockerRuntime(address), Engine(address)
    try:
        return await audit(Subject(runtime=runtime, engine=engine, store=store, spec=spec), lambda finding: None)
    finally:
        await runtime.aclose()
        await engine.aclose()


@pytest.mark.parametrize(
    "change", [{"CapDrop": []}, {"PidsLimit": 0}, {"IpcMode": "host"}], ids=lambda change: next(iter(change))
)
async def test_an_engine_that_gives_less(
    change: Model, store: ContextStore, sandbox_spec: SandboxSpec, tmp_path: Path
) -> None:
    """Where the sandbox is refused the audit says so, and what it could not check is no pass."""
    async with weakened_engine(tmp_path / "engine", change) as address:
        report = await run_audit(address, store, sandbox_spec)
    verdicts = {finding.claim: finding.verdict for finding in report.findings}
    assert verdicts["sandbox.given"] == "fail"
    assert verdicts["sandbox.removed"] == "pass"
    assert verdicts["engine.seccomp"] == "pass"
    assert {verdicts[name] for name in (*INSIDE.names, *ESCAPES.names, *CIS.names)} == {"fail"}
    assert not report.passed


async def test_no_engine_and_no_image(store: ContextStore, sandbox_spec: SandboxSpec, tmp_path: Path) -> None:
    """Where there is nothing to audit there is an error and no report."""
    with pytest.raises(EngineUnavailable):
        await run_audit(f"unix://{tmp_path}/none", store, sandbox_spec)
    with pytest.raises(ImageMissing):
        await run_audit(None, store, replace(sandbox_spec, image="rlm-kernel-sandbox:none"))


async def test_a_cancel_leaves_nothing(store: ContextStore, sandbox_spec: SandboxSpec) -> None:
    """An audit that is cancelled in a bomb removes both of its containers."""
    bombs = asyncio.Event()

    def tell(finding: Finding) -> None:
        if finding.claim.startswith("bomb."):
            bombs.set()

    runtime, engine = DockerRuntime(), Engine()
    task = asyncio.ensure_future(audit(Subject(runtime=runtime, engine=engine, store=store, spec=sandbox_spec), tell))
    await bombs.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await runtime.aclose()
    await engine.aclose()
