"""The sandbox image on the real engine: what is in it, what is not, and how builds fail."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import docker
import pytest

from rlm_kernel.errors import SandboxError
from rlm_kernel.sandbox.engine import connect
from rlm_kernel.sandbox.image import BASE_LABEL, ensure_image
from rlm_kernel.sandbox.image_build import BUILD_LABEL, remove_old
from rlm_kernel.sandbox.image_sources import ImageSources

ROOT = Path(__file__).parents[2]
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


def inspect(engine: docker.APIClient, name: str) -> dict[str, Any]:
    """Return what the engine knows of an image."""
    found: dict[str, Any] = engine.inspect_image(name)  # type: ignore[no-untyped-call]
    return found


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
    """The image has the standard labels, its own version among them, and no root by default."""
    found = inspect(engine, image)
    labels = found["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == image.partition(":")[2]
    assert labels["org.opencontainers.image.title"] == "rlm_kernel sandbox"
    assert labels["org.opencontainers.image.base.name"]
    assert found["Config"]["User"] == "65532:65532"


def test_change_of_the_guest_makes_its_layers_only(engine: docker.APIClient, image: str, tmp_path: Path) -> None:
    """New guest code goes on the one layer that is there, which hides nothing below it, and is byte-compiled."""
    shutil.copy(ROOT / "Dockerfile.sandbox", tmp_path)
    shutil.copytree(ROOT / "images", tmp_path / "images")
    for part in ("guest", "toolkit"):
        shutil.copytree(ROOT / "rlm_kernel" / part, tmp_path / "rlm_kernel" / part)
    (tmp_path / "rlm_kernel" / "guest" / "new.py").write_text(f"# {tmp_path}\n")
    sources = ImageSources.find(tmp_path / "rlm_kernel")
    said: list[str] = []
    pin = engine.create_container(image)["Id"]  # the clean-up after the build leaves what a container uses
    try:
        with closing(connect()) as client:  # docker-py keeps a connection for each address that it has asked
            name = ensure_image(client, progress=said.append, sources=sources)
        layers = {tag: inspect(engine, tag)["RootFS"]["Layers"] for tag in (image, name, sources.libraries_tag())}
    finally:
        engine.remove_image(sources.tag(), force=True)
        engine.remove_container(pin)
    assert [line for line in said if line.startswith(("Building", "Fetching"))] == [
        f"Building {name} on {sources.libraries_tag()}"
    ]
    below = layers[sources.libraries_tag()]
    assert len(below) == 1
    assert layers[image][:1] == layers[name][:1] == below
    assert layers[name][1:] != layers[image][1:]
    assert len(layers[name]) == 3


def test_present_image_is_not_built(engine: docker.APIClient, image: str) -> None:
    """With the image there, nothing is done and nothing is said."""
    said: list[str] = []
    assert ensure_image(engine, progress=said.append) == image
    assert said == []


def test_image_on_the_named_base_is_not_built(engine: docker.APIClient, image: str) -> None:
    """A base that is named and is the image's own changes nothing."""
    base = inspect(engine, image)["Config"]["Labels"][BASE_LABEL]
    said: list[str] = []
    assert ensure_image(engine, base=base, progress=said.append) == image
    assert said == []


def test_image_on_another_base_is_built_again(engine: docker.APIClient, image: str, empty_base: str) -> None:
    """A base that is named and is not the image's own is built on, and here fails, as there is nothing in it."""
    with pytest.raises(SandboxError, match=f"could not build .* on {empty_base}"):
        ensure_image(engine, base=empty_base, progress=lambda line: None)


def test_old_images_are_removed(engine: docker.APIClient) -> None:
    """The newest three stay, the current one, what a container uses, and what was not built here; the rest goes."""
    repository = "rlm-kernel-test-old"
    for number in range(7):
        load_image(
            engine, f"{repository}:{number}", year=2010 + number, label="io.other" if number == 1 else BUILD_LABEL
        )
    container = engine.create_container(f"{repository}:2", command=["none"])["Id"]
    said: list[str] = []
    try:
        remove_old(engine, repository, f"{repository}:0", said.append)
        left = {name.partition(":")[2] for found in engine.images(repository) for name in found["RepoTags"]}
        assert left == {"0", "1", "2", "4", "5", "6"}
        assert said == [f"Removed {repository}:3, which was old and unused"]
    finally:
        engine.remove_container(container)
        for found in engine.images(repository):
            engine.remove_image(found["Id"], force=True)


def load_image(engine: docker.APIClient, name: str, *, year: int, label: str) -> None:
    """Give the engine an image of one empty layer, made in `year` and with `label`."""
    layer = tar_of({})
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": f"{year}-01-01T00:00:00Z",
        "config": {"Labels": {label: name}},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {"config.json": json.dumps(config).encode(), "manifest.json": json.dumps(manifest).encode()}
    engine.load_image(tar_of(files | {"layer.tar": layer}))  # type: ignore[no-untyped-call]


def tar_of(files: dict[str, bytes]) -> bytes:
    """Return a tar of `files`."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return tar.getvalue()


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
    engine.import_image_from_data(tar_of({"file": b""}), *name.split(":"))
    yield name
    engine.remove_image(name, force=True)
