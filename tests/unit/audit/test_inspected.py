"""The CIS items, read from what the engine says of a container."""

from __future__ import annotations

from typing import Any

import pytest

from rlm_kernel.audit.claims import Scene
from rlm_kernel.audit.inspected import CIS
from tests.unit.audit.conftest import MIB

SHARED = {"Type": "bind", "Source": "/s", "Destination": "/run/rlm", "RW": False, "Propagation": "rprivate"}


def inspected(**changes: Any) -> dict[str, Any]:
    """Return what an engine says of a session's container, with changes to its HostConfig."""
    host = {
        "AutoRemove": True,
        "Binds": None,
        "CapAdd": None,
        "CapDrop": ["ALL"],
        "CgroupParent": "",
        "CpuPeriod": 0,
        "CpuQuota": 0,
        "Devices": None,
        "IpcMode": "private",
        "LogConfig": {"Type": "none", "Config": {}},
        "Memory": 1024 * MIB,
        "NanoCpus": 1_000_000_000,
        "NetworkMode": "none",
        "PidMode": "",
        "PidsLimit": 256,
        "PortBindings": {},
        "Privileged": False,
        "ReadonlyRootfs": True,
        "RestartPolicy": {"Name": "", "MaximumRetryCount": 0},
        "SecurityOpt": ["no-new-privileges:true"],
        "UTSMode": "",
        "Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 1024}, {"Name": "core", "Soft": 0, "Hard": 0}],
        "UsernsMode": "",
    }
    return {
        "AppArmorProfile": "docker-default",
        "Config": {"Image": "rlm-kernel-sandbox:0123456789ab"},
        "HostConfig": host | changes,
        "Image": "sha256:0123",
        "Mounts": [SHARED],
        "NetworkSettings": {"Ports": {}},
    }


def verdicts(facts: dict[str, Any], scene: Scene) -> dict[str, str]:
    """Return the claims that do not pass."""
    return {found.claim: found.verdict for found in CIS.judge(facts, scene) if found.verdict != "pass"}


def test_a_sessions_container_passes(scene: Scene) -> None:
    """What this package asks for passes every item."""
    assert verdicts(inspected(), scene) == {}
    assert len(CIS.names) == 24


@pytest.mark.parametrize(
    ("change", "claims"),
    [
        ({"CapDrop": None}, {"cis.5.4"}),
        ({"CapAdd": ["SYS_ADMIN"]}, {"cis.5.4"}),
        ({"Privileged": True}, {"cis.5.5"}),
        ({"Binds": ["/:/host"]}, {"cis.5.6"}),
        ({"Binds": ["/var/run/docker.sock:/x"]}, {"cis.5.6", "cis.5.32"}),
        ({"PortBindings": {"80/tcp": [{"HostPort": "80"}]}}, {"cis.5.9"}),
        ({"NetworkMode": "host"}, {"cis.5.10"}),
        ({"NetworkMode": "default"}, {"cis.5.10"}),
        ({"Memory": 0}, {"cis.5.11"}),
        ({"Memory": 2048 * MIB}, {"cis.5.11"}),
        ({"NanoCpus": 0}, {"cis.5.12"}),
        ({"NanoCpus": 4_000_000_000}, {"cis.5.12"}),
        ({"ReadonlyRootfs": False}, {"cis.5.13"}),
        ({"RestartPolicy": {"Name": "always"}}, {"cis.5.15"}),
        ({"AutoRemove": False}, {"cis.5.15"}),
        ({"PidMode": "host"}, {"cis.5.16"}),
        ({"IpcMode": "host"}, {"cis.5.17"}),
        ({"Devices": [{"PathOnHost": "/dev/sda"}]}, {"cis.5.18"}),
        ({"Ulimits": None}, {"cis.5.19"}),
        ({"UTSMode": "host"}, {"cis.5.21"}),
        ({"SecurityOpt": ["no-new-privileges:true", "seccomp=unconfined"]}, {"cis.5.22"}),
        ({"CgroupParent": "/"}, {"cis.5.25"}),
        ({"SecurityOpt": None}, {"cis.5.26"}),
        ({"SecurityOpt": ["no-new-privileges:false"]}, {"cis.5.26"}),
        ({"PidsLimit": None}, {"cis.5.29"}),
        ({"PidsLimit": -1}, {"cis.5.29"}),
        ({"UsernsMode": "host"}, {"cis.5.31"}),
        ({"LogConfig": {"Type": "json-file"}}, {"log-driver"}),
    ],
)
def test_each_item_can_fail(scene: Scene, change: dict[str, Any], claims: set[str]) -> None:
    """A container that is weaker in one way fails the items about it, and no others."""
    found = verdicts(inspected(**change), scene)
    assert set(found) == claims
    assert set(found.values()) == {"fail"}


@pytest.mark.parametrize(
    ("change", "claim", "verdict"),
    [
        ({"AppArmorProfile": ""}, "cis.5.2", "known-limit"),
        ({"AppArmorProfile": "unconfined"}, "cis.5.2", "known-limit"),
        ({"Mounts": [SHARED | {"RW": True}]}, "cis.5.6", "fail"),
        ({"Mounts": [SHARED | {"Propagation": "rshared"}]}, "cis.5.20", "fail"),
        ({"Config": {"Image": "rlm-kernel-sandbox:latest"}}, "cis.5.28", "fail"),
    ],
)
def test_items_outside_of_the_host_configuration(
    scene: Scene, change: dict[str, Any], claim: str, verdict: str
) -> None:
    """So do the items that are read elsewhere."""
    assert verdicts(inspected() | change, scene) == {claim: verdict}


def test_an_engine_that_says_nothing(scene: Scene) -> None:
    """What the engine does not say counts as not given."""
    silent = verdicts({}, scene)
    unsaid = {"cis.5.2", "cis.5.6", "cis.5.9", "cis.5.20", "cis.5.22", "cis.5.31", "cis.5.32"}
    assert set(CIS.names) - set(silent) <= unsaid
