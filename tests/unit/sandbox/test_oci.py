"""Which OCI runtime a container gets, and what is known of it, from the engine's words alone."""

from __future__ import annotations

from typing import Any

import pytest

from rlm_kernel.errors import SandboxRefused
from rlm_kernel.sandbox.oci import OciRuntime, check_used, find_runtime, remedy
from rlm_kernel.sandbox.spec import SandboxSpec
from rlm_kernel.sandbox.verify import GVISOR_HIDES, check_unseen

INFO: dict[str, Any] = {
    "DefaultRuntime": "runc",
    "Runtimes": {
        "runc": {"path": "runc"},
        "runsc": {"path": "/usr/bin/runsc", "runtimeArgs": ["--network=none", "--host-uds=open"]},
        "closed": {"path": "/opt/runsc-2024", "runtimeArgs": ["--platform=systrap"]},
        "shim": {"runtimeType": "io.containerd.runsc.v1"},
        "runsc-in-name-only": {"path": "/usr/bin/crun"},
    },
}
INSPECTED: dict[str, Any] = {"MemorySwap": 2**29, "NanoCpus": 10**9, "SecurityOpt": ["no-new-privileges:true"]}
STATS: dict[str, Any] = {"memory_stats": {"limit": 2**29}, "pids_stats": {"limit": 128}}


def test_a_runtime_that_the_engine_lacks_is_refused() -> None:
    """The error names it, those that there are, and how to have gVisor."""
    with pytest.raises(SandboxRefused, match=r"no OCI runtime 'kata', only closed, runc, .*make gvisor"):
        find_runtime(INFO, "kata")


@pytest.mark.parametrize(
    ("wanted", "gvisor", "sockets"),
    [
        (None, False, True),
        ("runc", False, True),
        ("runsc", True, True),
        ("closed", True, False),
        ("shim", True, False),
        ("runsc-in-name-only", False, True),
    ],
)
def test_gvisor_is_known_by_its_program(wanted: str | None, gvisor: bool, sockets: bool) -> None:
    """What a runtime is called says nothing; what it runs does, and with which options."""
    found = find_runtime(INFO, wanted)
    assert (found.wanted, found.hides == GVISOR_HIDES, found.host_sockets) == (wanted, gvisor, sockets)


def test_an_older_option_opens_sockets_too() -> None:
    """Early releases of gVisor have another name for it, and `none` closes them."""
    for option, opened in (("--fsgofer-host-uds", True), ("-host-uds=all", True), ("--host-uds=none", False)):
        info = {"Runtimes": {"r": {"path": "runsc", "runtimeArgs": [option]}}}
        assert find_runtime(info, "r").host_sockets is opened


def test_another_runtime_than_the_one_asked_for_is_refused() -> None:
    """Podman passes over the name; what it took then is its default one."""
    runsc = OciRuntime("runsc", "runsc")
    check_used(INFO, {"HostConfig": {"Runtime": "runsc"}}, runsc)
    check_used(INFO | {"DefaultRuntime": "runsc"}, {"HostConfig": {"Runtime": "oci"}}, runsc)
    for said in ("runc", "oci"):
        with pytest.raises(SandboxRefused, match="asked for the OCI runtime 'runsc' and took 'runc'"):
            check_used(INFO, {"HostConfig": {"Runtime": said}}, runsc)


def test_a_rootless_engine_on_the_old_cgroups_is_told_why() -> None:
    """Docker and Podman say each in its own way that they run without root."""
    for words in ({"Rootless": True}, {"SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]}):
        assert "cgroup version 1" in remedy(words | {"CgroupVersion": "1"})
        assert remedy(words | {"CgroupVersion": "2"}) == ""
    assert remedy({"CgroupVersion": "1", "SecurityOptions": ["name=seccomp"]}) == ""


@pytest.mark.parametrize(
    ("inspected", "stats", "named"),
    [
        ({}, {"memory_stats": {"limit": 2**40}}, "memory"),
        ({}, {"memory_stats": {}}, "memory"),
        ({}, {"pids_stats": {"limit": 0}}, "pids"),
        ({"MemorySwap": -1}, {}, "swap"),
        ({"NanoCpus": 0}, {}, "cpu"),
        ({"SecurityOpt": None}, {}, "no-new-privileges"),
        ({"SecurityOpt": ["no-new-privileges:true", "seccomp=unconfined"]}, {}, "seccomp"),
    ],
)
def test_what_the_guest_can_not_see_is_proved_by_the_engine(
    inspected: dict[str, Any], stats: dict[str, Any], named: str, sandbox_spec: SandboxSpec
) -> None:
    """Each limit that the host's cgroups or the engine's record don't show is a refusal that names it."""
    check_unseen({"HostConfig": INSPECTED}, STATS, sandbox_spec)
    with pytest.raises(SandboxRefused, match=named):
        check_unseen({"HostConfig": INSPECTED | inspected}, STATS | stats, sandbox_spec)


@pytest.fixture
def sandbox_spec(tmp_path: Any) -> SandboxSpec:
    """A spec of 512 MiB, one CPU and 128 processes."""
    limits: dict[str, Any] = {"memory": 2**29, "cpus": 1.0, "pids": 128, "nofile": 512, "tmp_size": 2**20}
    return SandboxSpec(image="i", folder=tmp_path, first_uid=40_000, last_uid=40_001, **limits)
