"""The sandbox image on the real engine: what is in it, what is not, and how builds fail."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from rlm_kernel.errors import SandboxError
from rlm_kernel.sandbox.image import BUILD_LABEL, ensure_image

PROBE = Path(__file__).with_name("image_probe.py")
UID = 71234


@pytest.fixture(scope="module")
def inside(engine: docker.APIClient, image: str) -> dict[str, Any]:
    """What the probe finds in a container with all of a session's restrictions, under a uid without a name."""
    container = engine.create_container(
        image,
        entrypoint=["python3", "-c", PROBE.read_text()],
        user=f"{UID}:{UID}",
        host_config=engine.create_host_config(
            network_mode="none",
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            tmpfs={"/tmp": "size=16m"},
        ),
    )["Id"]
    try:
        engine.start(container)
        status = engine.wait(container, timeout=60)["StatusCode"]
        said = engine.logs(container, stderr=bool(status))
        assert status == 0, said.decode()
        found: dict[str, Any] = json.loads(said)
        return found
    finally:
        engine.remove_container(container, force=True)


def test_runs_under_any_uid(inside: dict[str, Any]) -> None:
    """A uid that the image has never heard of can import the kernel, and has a user name, without a writable root."""
    assert (inside["uid"], inside["user"], inside["folder"]) == (UID, "rlm", "/tmp")


def test_has_python_and_guest(inside: dict[str, Any]) -> None:
    """The Python is the one that the wheels were fetched for, and the guest's code is importable."""
    assert inside["python"] == [3, 11]
    assert inside["guest"]


def test_everything_is_compiled(inside: dict[str, Any]) -> None:
    """No module is compiled at a session's start: each has its byte code, the standard library's too."""
    assert inside["loaded"] == [True] * 3
    assert inside["sources"] > 1000
    assert inside["uncompiled"] == []


def test_nothing_can_be_installed(inside: dict[str, Any]) -> None:
    """Neither pip nor a wheel is left in the image."""
    assert inside["pip"] == []
    assert inside["wheels"] == []


def test_no_program_raises_privileges(inside: dict[str, Any]) -> None:
    """No file of the image is set-uid or set-gid."""
    assert inside["setuid"] == []


def test_metadata(engine: docker.APIClient, image: str) -> None:
    """The image is one layer with the standard labels, its own version among them, and no root by default."""
    found = engine.inspect_image(image)  # type: ignore[no-untyped-call]
    labels = found["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == image.partition(":")[2]
    assert labels["org.opencontainers.image.title"] == "rlm_kernel sandbox"
    assert labels["org.opencontainers.image.base.name"]
    assert found["Config"]["User"] == "65532:65532"
    assert len(found["RootFS"]["Layers"]) == 1


def test_present_image_is_not_built(engine: docker.APIClient, image: str) -> None:
    """With the image there, nothing is done and nothing is said."""
    said: list[str] = []
    assert ensure_image(engine, progress=said.append) == image
    assert said == []


def test_unreachable_base_is_named(engine: docker.APIClient, image: str) -> None:
    """A base that can't be had is named in the error."""
    with pytest.raises(SandboxError, match=r"could not build .* on rlm-kernel-none\.invalid/base:1"):
        ensure_image(engine, base="rlm-kernel-none.invalid/base:1", progress=lambda line: None, rebuild=True)


def test_failed_build_leaves_nothing(engine: docker.APIClient, image: str, empty_base: str) -> None:
    """A build that fails half-way shows the end of its log and leaves neither a nameless image nor a container."""
    with pytest.raises(SandboxError, match=r"(?s)the end of its log:.*/bin/sh"):
        ensure_image(engine, base=empty_base, progress=lambda line: None, rebuild=True)
    left = engine.images(filters={"dangling": True, "since": empty_base, "label": BUILD_LABEL}, quiet=True)
    assert left == []
    assert engine.containers(filters={"ancestor": empty_base}, all=True, quiet=True) == []


@pytest.fixture
def empty_base(engine: docker.APIClient) -> Iterator[str]:
    """A base without a shell, on which the first program of a build fails."""
    name = "rlm-kernel-test:empty"
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("file"))
    engine.import_image_from_data(tar.getvalue(), *name.split(":"))
    yield name
    engine.remove_image(name, force=True)
