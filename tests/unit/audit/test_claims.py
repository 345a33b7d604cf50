"""Claims, escapes and the gate: nothing passes that was not seen to hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from rlm_kernel.audit import Finding, Report
from rlm_kernel.audit.claims import Scene
from rlm_kernel.audit.engine import ENGINE, EngineFacts
from rlm_kernel.audit.escapes import ESCAPES, WAYS
from rlm_kernel.audit.gate import WEAKER, refusal
from rlm_kernel.audit.inside import INSIDE
from rlm_kernel.audit.inspected import CIS
from rlm_kernel.types import JSON
from tests.unit.audit.conftest import MIB

Tried = dict[str, dict[str, str]]


def refused() -> Tried:
    """Return the escape cell's answer where every way out is closed."""
    return {group: {f"way {number}": "EPERM" for number in range(way.attempts)} for group, way in WAYS.items()}


def verdicts(attempts: Mapping[str, Mapping[str, str]], scene: Scene) -> dict[str, str]:
    """Return the claims that do not pass."""
    return {found.claim: found.verdict for found in ESCAPES.judge(attempts, scene) if found.verdict != "pass"}


def test_closed_ways_pass(scene: Scene) -> None:
    """Where everything is refused every claim holds."""
    assert verdicts(refused(), scene) == {}


@pytest.mark.parametrize("group", WAYS)
def test_one_open_way_is_no_pass(scene: Scene, group: str) -> None:
    """A single attempt that works fails its claim."""
    attempts = refused()
    attempts[group]["way 0"] = "worked"
    assert verdicts(attempts, scene) == {f"escape.{group}": "fail"}


@pytest.mark.parametrize("group", WAYS)
def test_attempts_that_were_not_made_fail(scene: Scene, group: str) -> None:
    """A group that is missing, or lacks an attempt, was not checked."""
    attempts = refused()
    del attempts[group]["way 0"]
    assert verdicts(attempts, scene) == {f"escape.{group}": "fail"}
    assert verdicts({}, scene) == dict.fromkeys(ESCAPES.names, "fail")


def test_calls_that_reach_the_kernel_count(scene: Scene) -> None:
    """Where a filter should refuse a call, an error from the kernel's own code for it is too far."""
    attempts = refused()
    attempts["kernel"]["way 0"] = "EFAULT"
    attempts["devices"]["way 0"] = "ENOENT"
    assert verdicts(attempts, scene) == {"escape.kernel": "fail"}


def test_a_kernel_of_its_own(scene: Scene) -> None:
    """Under gVisor a call that works is answered by gVisor; what leads to the host is a failure there too."""
    attempts = refused()
    for group in ("mounts", "namespaces", "relay", "engine", "devices"):
        attempts[group]["way 0"] = "worked"
    found = verdicts(attempts, replace(scene, oci_runtime="runsc"))
    assert {claim for claim, verdict in found.items() if verdict == "known-limit"} == {
        "escape.mounts",
        "escape.namespaces",
    }
    assert {claim for claim, verdict in found.items() if verdict == "fail"} == {
        "escape.relay",
        "escape.engine",
        "escape.devices",
    }
    attempts = refused()
    attempts["relay"]["/proc/1/maps"] = attempts["relay"].pop("way 0").replace("EPERM", "worked")
    assert verdicts(attempts, replace(scene, oci_runtime="runsc")) == {"escape.relay": "known-limit"}
    assert verdicts(attempts, scene) == {"escape.relay": "fail"}


@pytest.mark.parametrize("claims", [ENGINE, CIS, INSIDE, ESCAPES])
def test_what_could_not_be_checked_fails(claims: object) -> None:
    """Every claim of every group has a failure for it."""
    unchecked = list(claims.unchecked("gone"))  # type: ignore[attr-defined]
    assert unchecked
    assert {(found.verdict, found.reason) for found in unchecked} == {("fail", "could not be checked")}


SEEN: dict[str, JSON] = {
    "pid": 1,
    "uid": 40_001,
    "gid": 40_001,
    "groups": [40_001],
    **dict.fromkeys(("cap_eff", "cap_prm", "cap_inh", "cap_bnd", "cap_amb"), "0000000000000000"),
    "no_new_privs": True,
    "seccomp": 2,
    "rootfs_read_only": True,
    "tmpfs": {
        path: {"size_bytes": size, "options": ["nosuid", "nodev", "noexec"], "writable": True}
        for path, size in (("/tmp", 64 * MIB), ("/run/rlm-guest", 4 * MIB), ("/dev/shm", 16 * MIB))
    },
    "pids_max": 256,
    "memory_max": 1024 * MIB,
    "memory_swap_max": 0,
    "cpu_max": 1.0,
    "core": 0,
    "nofile": [1024, 1024],
    "interfaces": ["lo"],
    "python": "3.11.2",
}


def test_the_gate_holds(scene: Scene) -> None:
    """Each weaker reading is refused."""
    assert [found.verdict for found in refusal(SEEN, scene)] == ["pass"]
    assert set(WEAKER) <= set(SEEN)


def test_a_gate_that_lets_weaker_readings_through_fails(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate that refuses nothing, or everything, is no pass."""
    assert [found.verdict for found in refusal(SEEN | {"uid": 0}, scene)] == ["fail"]
    monkeypatch.setattr("rlm_kernel.audit.gate.read_hello", lambda *_, **__: {})
    assert [found.verdict for found in refusal(SEEN, scene)] == ["fail"]


@pytest.mark.parametrize(
    ("info", "address", "claim", "verdict"),
    [
        ({"SecurityOptions": []}, "unix:///x", "engine.seccomp", "fail"),
        ({"SecurityOptions": ["name=seccomp,profile=unconfined"]}, "unix:///x", "engine.seccomp", "fail"),
        ({"SecurityOptions": ["name=seccomp,profile=builtin"]}, "unix:///x", "engine.seccomp", "pass"),
        ({"SecurityOptions": ["name=rootless"]}, "unix:///x", "engine.user-namespace", "pass"),
        ({"SecurityOptions": ["name=userns"]}, "unix:///x", "engine.user-namespace", "pass"),
        ({}, "unix:///x", "engine.user-namespace", "known-limit"),
        ({"MemoryLimit": True, "PidsLimit": True, "CpuCfsQuota": True}, "unix:///x", "engine.limits", "pass"),
        ({"MemoryLimit": True, "PidsLimit": False, "CpuCfsQuota": True}, "unix:///x", "engine.limits", "fail"),
        ({}, "http://10.0.0.1:2375", "engine.address", "fail"),
        ({}, "http://localhost:2375", "engine.address", "pass"),
        ({}, "https://10.0.0.1:2376", "engine.address", "pass"),
        ({}, "http+docker://localhost", "engine.address", "pass"),
        ({}, "unix:///x", "engine.runc", "fail"),
    ],
)
def test_what_the_engine_says_of_itself(
    scene: Scene, info: dict[str, object], address: str, claim: str, verdict: str
) -> None:
    """Each of its claims can pass and fail."""
    facts = EngineFacts(version={}, info=info, address=address)
    assert {found.claim: found.verdict for found in ENGINE.judge(facts, scene)}[claim] == verdict


@pytest.mark.parametrize(("given", "passed"), [(["pass", "known-limit"], True), (["pass", "fail"], False), ([], False)])
def test_known_limits_alone_are_no_failure(given: list[str], passed: bool) -> None:
    """A report passes without failures, and never empty."""
    findings = tuple(
        Finding(claim="x", title="x", tried="x", seen="x", verdict=verdict)  # type: ignore[arg-type]
        for verdict in given
    )
    report = Report(engine="docker", oci_runtime="runc", seconds=1, findings=findings)
    assert report.passed is passed
    assert report.as_json()["passed"] is passed
