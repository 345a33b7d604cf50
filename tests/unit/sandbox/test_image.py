"""The sandbox image's name, inputs and build context; no engine is needed."""

from __future__ import annotations

import io
import os
import re
import shutil
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path

import docker
import pytest

from rlm_kernel.errors import EngineUnavailable, SandboxError
from rlm_kernel.sandbox.image import ensure_image, image_tag
from rlm_kernel.sandbox.image_sources import ImageSources, write_context

ROOT = Path(__file__).parents[3]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the image's sources, laid out as in a checkout; the package's folder in it."""
    shutil.copy(ROOT / "Dockerfile.sandbox", tmp_path)
    shutil.copytree(ROOT / "images", tmp_path / "images")
    for part in ("guest", "toolkit"):
        shutil.copytree(ROOT / "rlm_kernel" / part, tmp_path / "rlm_kernel" / part)
    return tmp_path / "rlm_kernel"


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def rename(path: Path) -> None:
    path.rename(path.with_name("renamed" + path.suffix))


def test_tag_has_a_repository_and_twelve_digits() -> None:
    """The tag of this checkout is a name that the engine accepts."""
    assert re.fullmatch(r"rlm-kernel-sandbox:[0-9a-f]{12}", image_tag())


def test_copy_has_the_same_tag(package: Path) -> None:
    """Where the sources are makes no difference, only what they are."""
    assert ImageSources.find(package).tag() == image_tag()


def test_installed_package_has_the_same_tag(package: Path) -> None:
    """In a wheel the inputs are inside the package, and give the same image."""
    inside = package / "_image"
    inside.mkdir()
    shutil.move(package.parent / "Dockerfile.sandbox", inside)
    shutil.move(package.parent / "images", inside)
    assert ImageSources.find(package).tag() == image_tag()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("Dockerfile.sandbox", append),
        ("images/Dockerfile.libraries", append),
        ("images/base.sh", append),
        ("images/prepare.sh", append),
        ("images/requirements.lock", append),
        ("rlm_kernel/guest/relay.py", append),
        ("rlm_kernel/guest/relay.py", rename),
        ("rlm_kernel/guest/relay.py", Path.unlink),
        ("rlm_kernel/guest/new.py", Path.touch),
        ("rlm_kernel/toolkit/chunks.py", append),
        ("rlm_kernel/guest/inner/new.py", lambda path: (path.parent.mkdir(), path.touch())),
    ],
)
def test_tag_changes_with_every_input(package: Path, name: str, change: Callable[[Path], object]) -> None:
    """A change to the name, the content or the presence of an input gives another image."""
    before = ImageSources.find(package).tag()
    change(package.parent / name)
    assert ImageSources.find(package).tag() != before


def test_tag_ignores_what_is_no_input(package: Path) -> None:
    """Times, modes, byte code, host code and documents don't decide the image."""
    before = ImageSources.find(package).tag()
    relay = package / "guest" / "relay.py"
    os.utime(relay, (1, 1))
    relay.chmod(0o600)
    (package / "guest" / "__pycache__").mkdir(exist_ok=True)
    (package / "guest" / "__pycache__" / "relay.cpython-311.pyc").write_bytes(b"byte code")
    (package / "host.py").touch()
    (package.parent / "README.md").touch()
    assert ImageSources.find(package).tag() == before


def test_each_part_follows_its_own_inputs(package: Path) -> None:
    """A change of the guest makes neither the libraries nor the base anew; one of the base's script makes both."""
    before = ImageSources.find(package)
    names = (before.libraries_tag(), before.base_tag())
    append(package / "guest" / "relay.py")
    append(package.parent / "Dockerfile.sandbox")
    after = ImageSources.find(package)
    assert (after.libraries_tag(), after.base_tag()) == names
    append(package.parent / "images" / "prepare.sh")
    assert after.libraries_tag() != names[0]
    assert after.base_tag() == names[1]
    append(package.parent / "images" / "base.sh")
    assert after.base_tag() != names[1]


def test_missing_sources_are_named(tmp_path: Path) -> None:
    """A package without its image sources says so, not that a file was not found."""
    with pytest.raises(SandboxError, match=r"no Dockerfile\.sandbox"):
        ImageSources.find(tmp_path / "rlm_kernel")


@pytest.mark.parametrize("part", [ImageSources.guest_files, ImageSources.libraries_files])
def test_context_is_reproducible(package: Path, part: Callable[[ImageSources], dict[str, Path]]) -> None:
    """A build context is the same, byte for byte, whenever and by whomever its files were written."""
    files = part(ImageSources.find(package))
    first, second = io.BytesIO(), io.BytesIO()
    write_context(first, files)
    for path in files.values():
        os.utime(path, (1, 1))
        path.chmod(0o600)
    write_context(second, dict(reversed(files.items())))
    assert first.getvalue() == second.getvalue()


def test_contexts_hold_the_inputs(package: Path) -> None:
    """Each Dockerfile has the builder's default name; scripts, lock and guest are there, and readable."""
    sources = ImageSources.find(package)
    assert {"Dockerfile", "images/prepare.sh", "images/requirements.lock"} <= names_in(sources.libraries_files())
    assert {"Dockerfile", "code/rlm_guest/relay.py", "code/rlm_toolkit/chunks.py"} <= names_in(sources.guest_files())
    assert not any(name.startswith("code/") for name in sources.libraries_files())


def names_in(files: dict[str, Path]) -> set[str]:
    """Return the names in the context of `files`, all of them readable by everybody."""
    file = io.BytesIO()
    write_context(file, files)
    file.seek(0)
    with tarfile.open(fileobj=file) as tar:
        assert {entry.mode for entry in tar} == {0o644}
        return set(tar.getnames())


def test_lost_engine_is_an_engine_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that went away is reported as that, and nothing is begun."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    client = docker.APIClient(f"tcp://127.0.0.1:{port}", version="1.41", timeout=5)
    said: list[str] = []
    with pytest.raises(EngineUnavailable, match="went away"):
        ensure_image(client, progress=said.append)
    client.close()
    assert said == []
