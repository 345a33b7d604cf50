"""What code inside can see, judged: each claim about it can fail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from rlm_kernel.audit.claims import Scene
from rlm_kernel.audit.inside import INSIDE, Inside, Mount

NETWORK = {"connect to 1.1.1.1": "OSError", "send": "OSError", "look up example.org": "gaierror"}
STATUS = {
    **dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0000000000000000"),
    "NoNewPrivs": "1",
    "Seccomp": "2",
}


def mount(path: str, kind: str = "tmpfs", *, root: str = "/", read_only: bool = False) -> Mount:
    """Return a row of the mount table."""
    return Mount(path=path, root=root, kind=kind, source=kind, read_only=read_only)


MOUNTS = [
    mount("/", "overlay", read_only=True),
    mount("/proc", "proc"),
    mount("/sys", "sysfs", read_only=True),
    mount("/sys/fs/cgroup", "tmpfs"),
    mount("/dev"),
    mount("/tmp"),
    mount("/run/rlm", "ext4", read_only=True),
]
CLOSED = Inside(
    ids=[40_001] * 7,
    status=STATUS,
    uid_map=["0", "100000", "65536"],
    label="docker-default (enforce)",
    hostname="sandbox",
    processes=2,
    mounts=MOUNTS,
    masked={f"/proc/{number}": "absent" for number in range(13)},
    shared={"/proc/cmdline": "", "/proc/version": ""},
    devices=["/dev/null", "/dev/pts/0"],
    privileged_files=[],
    descriptors=["/dev/null", "pipe:[1]", "socket:[2]", "anon_inode:[eventfd]", "/tmp/mine"],
    environment=["HOME", "RLM_LINK"],
    interfaces=["lo"],
    routes=0,
    abstract_sockets=[],
    network=NETWORK,
)


def verdicts(scene: Scene, **changes: Any) -> dict[str, str]:
    """Return the claims that do not pass, for facts changed so."""
    facts = msgspec.structs.replace(CLOSED, **changes)
    return {found.claim: found.verdict for found in INSIDE.judge(facts, scene) if found.verdict != "pass"}


def test_a_closed_sandbox_passes(scene: Scene) -> None:
    """Where nothing can be seen every claim holds."""
    assert verdicts(scene) == {}


@pytest.mark.parametrize(
    ("change", "claim"),
    [
        ({"ids": [0] * 7}, "inside.user"),
        ({"ids": [40_001] * 6 + [0]}, "inside.user"),
        ({"ids": [40_002] * 7}, "inside.user"),
        ({"status": STATUS | {"CapBnd": "00000000a80425fb"}}, "inside.capabilities"),
        ({"status": STATUS | {"CapEff": ""}}, "inside.capabilities"),
        ({"status": STATUS | {"NoNewPrivs": "0"}}, "inside.no-new-privileges"),
        ({"status": STATUS | {"Seccomp": "0"}}, "inside.seccomp"),
        ({"privileged_files": ["/usr/bin/su"]}, "inside.privileged-files"),
        ({"mounts": [*MOUNTS, mount("/data")]}, "inside.writable"),
        ({"mounts": [mount("/", "overlay"), *MOUNTS[1:]]}, "inside.writable"),
        ({"mounts": MOUNTS[1:]}, "inside.writable"),
        ({"mounts": [*MOUNTS, mount("/host", "ext4", read_only=True)]}, "inside.mounts"),
        ({"masked": CLOSED.masked | {"/proc/kcore": "readable"}}, "inside.masks"),
        ({"masked": {}}, "inside.masks"),
        ({"interfaces": ["lo", "eth0"]}, "inside.network"),
        ({"routes": 1}, "inside.network"),
        ({"network": NETWORK | {"send": "worked"}}, "inside.network"),
        ({"network": {}}, "inside.network"),
        ({"abstract_sockets": ["@/containerd-shim/x.sock"]}, "inside.abstract-sockets"),
        ({"devices": ["/dev/null", "/dev/sda"]}, "inside.devices"),
        ({"descriptors": ["pipe:[1]", "/sys/fs/cgroup"]}, "inside.descriptors"),
        ({"descriptors": []}, "inside.descriptors"),
        ({"environment": ["HOME", "OPENAI_API_KEY"]}, "inside.environment"),
        ({"processes": 200}, "inside.processes"),
        ({"hostname": "prod-1"}, "inside.processes"),
    ],
)
def test_each_claim_can_fail(scene: Scene, change: dict[str, Any], claim: str) -> None:
    """A sandbox that is weaker in one way fails the claim about it."""
    assert verdicts(scene, **change) == {claim: "fail"}


LIMITS: list[tuple[dict[str, Any], str]] = [
    ({"mounts": [*MOUNTS[:-1], mount("/run/rlm", "ext4", root="/home/x", read_only=True)]}, "inside.host-paths"),
    ({"shared": {"/proc/cmdline": "quiet"}}, "inside.shared-kernel"),
    ({"uid_map": ["0", "0", "4294967295"]}, "inside.user-namespace"),
    ({"label": "unconfined"}, "inside.confinement"),
    ({"label": ""}, "inside.confinement"),
]


@pytest.mark.parametrize(("change", "claim"), LIMITS)
def test_known_limits(scene: Scene, change: dict[str, Any], claim: str) -> None:
    """What containers show by their nature is told, with reason and remedy, and is no failure."""
    assert verdicts(scene, **change) == {claim: "known-limit"}
    found = {found.claim: found for found in INSIDE.judge(msgspec.structs.replace(CLOSED, **change), scene)}[claim]
    assert found.reason
    assert found.remedy


def test_under_a_kernel_of_its_own(scene: Scene) -> None:
    """Under gVisor what can be read is gVisor's own, and so are its ids and filters."""
    changes = {name: value for change, _ in LIMITS[1:] for name, value in change.items()}
    changes["status"] = {name: value for name, value in STATUS.items() if name not in ("CapAmb", "NoNewPrivs")}
    changes["status"]["Seccomp"] = "0"
    changes["devices"] = ["/dev/fuse"]
    gvisor = replace(scene, oci_runtime="runsc")
    assert verdicts(gvisor, **changes) == {"inside.seccomp": "known-limit", "inside.devices": "known-limit"}
    assert verdicts(gvisor, status=STATUS | {"CapBnd": "1"}) == {"inside.capabilities": "fail"}
    assert verdicts(gvisor, status=STATUS | {"NoNewPrivs": "0"}) == {"inside.no-new-privileges": "fail"}


def test_every_claim_is_told_apart() -> None:
    """All claims are among those that a test above can make fail, or are limits."""
    assert len(set(INSIDE.names)) == 18
