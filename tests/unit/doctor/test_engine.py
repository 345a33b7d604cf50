"""What the doctor makes of an engine, and of none."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel.config import Settings
from rlm_kernel.doctor import Check, examine
from rlm_kernel.doctor.doctor import LOOKS
from rlm_kernel.doctor.engine import Engine, check_engine, judge, unreachable_remedy
from rlm_kernel.sandbox.image import image_tag

VERSION = {"Version": "28.5.2", "Os": "linux", "Components": [{"Name": "Engine"}]}
INFO = {
    "CgroupVersion": "2",
    "CpuCfsQuota": True,
    "DefaultRuntime": "runc",
    "Driver": "overlay2",
    "MemoryLimit": True,
    "PidsLimit": True,
    "Runtimes": {"runc": {}, "io.containerd.runc.v2": {}},
    "SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"],
    "SwapLimit": True,
}


def states(
    version: dict[str, Any] | None = None,
    images: set[str] | None = None,
    oci_runtime: str | None = None,
    **info: Any,
) -> dict[str, str]:
    """Return what is not well with an engine that is as it should be but for these changes."""
    names = frozenset({image_tag()} if images is None else images)
    engine = Engine(version=VERSION | (version or {}), info=INFO | info, images=names)
    found = list(judge(engine, "unix:///x", oci_runtime))
    assert all(check.remedy for check in found if check.state != "ok")
    return {check.name: check.state for check in found if check.state != "ok"}


def test_a_good_engine() -> None:
    """Nothing is found wanting."""
    assert states() == {}


@pytest.mark.parametrize(
    ("change", "wanting"),
    [
        ({"version": {"Version": "19.03.8"}}, {"engine": "problem"}),
        ({"version": {"Version": "20.10.24+dfsg1"}}, {}),
        ({"version": {"Version": "5.4.2", "Components": [{"Name": "Podman Engine"}]}}, {}),
        ({"version": {"Os": "windows"}}, {"engine": "problem"}),
        ({"MemoryLimit": False}, {"limits": "problem"}),
        ({"PidsLimit": None}, {"limits": "problem"}),
        ({"CpuCfsQuota": False}, {"limits": "problem"}),
        ({"SwapLimit": False}, {"limits": "note"}),
        ({"SecurityOptions": []}, {"seccomp": "problem"}),
        ({"SecurityOptions": None}, {"seccomp": "problem"}),
        ({"SecurityOptions": ["name=seccomp,profile=unconfined"]}, {"seccomp": "problem"}),
        ({"Driver": "vfs"}, {"storage": "note"}),
        ({"oci_runtime": "runc"}, {}),
        ({"oci_runtime": "runsc"}, {"runtimes": "problem"}),
    ],
)
def test_what_an_engine_can_lack(change: dict[str, Any], wanting: dict[str, str]) -> None:
    """Each thing that is missing is told, by itself."""
    assert states(**change) == wanting


@pytest.mark.parametrize(
    ("images", "mmdebstrap", "wanting"),
    [
        (set(), True, {"image": "problem"}),
        (set(), False, {"image": "problem", "base": "note"}),
        ({"rlm-kernel-sandbox:older"}, True, {"image": "problem"}),
        ({"python:3.11-slim-bookworm"}, False, {"image": "problem"}),
        ({"rlm-kernel-base:0123"}, False, {"image": "problem"}),
    ],
)
def test_an_image_that_is_not_built(
    images: set[str], mmdebstrap: bool, wanting: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a problem that one command mends, if there is something to build on."""
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/x" if mmdebstrap else None)
    assert states(images=images) == wanting


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        ("no engine answers at … ([Errno 13] Permission denied)", "usermod"),
        ("no engine answers at tcp://10.0.0.1:2375 (timed out)", "unset DOCKER_HOST"),
        ("the current Docker context does not exist: …", "docker context use default"),
        ("no engine answers at … ([Errno 111] Connection refused)", "systemctl start docker"),
    ],
)
def test_how_to_reach_an_engine(error: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way of not reaching one has a command that mends it."""
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/sbin/{name}")
    assert remedy in unreachable_remedy(error)


def test_how_to_get_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is none it has to be installed."""
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/apt-get" if name == "apt-get" else None)
    assert "apt-get install" in unreachable_remedy("No such file or directory")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "install Docker" in unreachable_remedy("No such file or directory")


def test_no_engine_at_all(tmp_path: Path) -> None:
    """The doctor then says so, and tells the rest."""
    settings = Settings(docker_host=f"unix://{tmp_path}/none.sock", state_dir=tmp_path)
    found = {check.name: check for check in examine(settings)}
    assert found["engine"].state == "problem"
    assert "No such file" in found["engine"].seen
    assert {"python", "state-folder", "disk", "memory", "user-ids", "model"} <= set(found)


def test_an_engine_that_never_answers(tmp_path: Path) -> None:
    """An engine that takes connections and says nothing costs the deadline, and no more."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/engine.sock")
        listener.listen()
        settings = Settings(docker_host=f"unix://{tmp_path}/engine.sock", state_dir=tmp_path)
        began = time.monotonic()
        (check,) = examine(settings, [("engine", check_engine)], deadline=1)
        assert time.monotonic() - began < 5
    assert (check.name, check.state) == ("engine", "problem")


def test_a_look_that_fails_does_not_hide_the_others(tmp_path: Path) -> None:
    """What a look stumbles over is a problem of its own."""

    def stumble(settings: Settings) -> Iterator[Check]:
        raise OSError("the disk is gone")

    found = examine(Settings(state_dir=tmp_path), [("a disk", stumble), *LOOKS[:1]])
    assert [(check.name, check.state) for check in found] == [("a-disk", "problem"), ("python", "ok")]
    assert "the disk is gone" in found[0].seen
