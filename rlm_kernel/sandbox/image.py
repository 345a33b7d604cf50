"""The sandbox image, built when the name that its inputs give it is missing from the engine. Everything here blocks."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOSPC
from fcntl import LOCK_EX, LOCK_NB, flock
from importlib.util import find_spec
from pathlib import Path

import docker

from rlm_kernel.errors import SandboxError, StorageFull
from rlm_kernel.sandbox.image_base import choose_base
from rlm_kernel.sandbox.image_build import (
    Progress,
    architecture,
    build,
    image_labels,
    remove_old,
    run_program,
)
from rlm_kernel.sandbox.image_sources import (
    BASE_REPOSITORY,
    LIBRARIES_REPOSITORY,
    REPOSITORY,
    ImageSources,
    digest,
)
from rlm_kernel.sandbox.packages import PACKAGES_LABEL, noted_packages
from rlm_kernel.storage import cache_folder, unfinished_folder

PYTHON_VERSION = "3.11"
BASE_LABEL = "org.opencontainers.image.base.name"

_WHEEL_ARCH = {"amd64": "x86_64", "arm64": "aarch64"}
_GLIBC_MINORS = range(17, 37)
"""The manylinux levels up to the glibc of Debian bookworm, 2.36; pip knows the older ones by manylinux2014."""


def image_tag() -> str:
    """Return the sandbox image's name, "rlm-kernel-sandbox:" and 12 digits made from all of its inputs."""
    return ImageSources.find().tag()


def ensure_image(
    client: docker.APIClient,
    *,
    base: str = "auto",
    progress: Progress,
    rebuild: bool = False,
    sources: ImageSources | None = None,
) -> str:
    """Return the sandbox image's name; build the image first if the engine lacks it, or if `rebuild`.

    `base` is an image to build on, "debian" for the one made from Debian's packages, or "auto": what the present image
    is built on, else `PYTHON_BASE` where the engine has it or a registry gives it, else Debian's. An image on another
    base than the one named is built again. `progress` is told, line by line, what goes on. Two builds never run at
    once. After a build, old images of ours that no container uses are removed. Raise `SandboxError`, saying what failed
    and the way out, or `StorageFull`; a build that failed or was interrupted leaves no image.
    """
    sources = sources or ImageSources.find()
    try:
        with _one_build_at_a_time(progress):
            if rebuild or not _is_there(client, sources, sources.tag(), base):
                if rebuild or not _is_there(client, sources, sources.libraries_tag(), base):
                    _build_libraries(client, sources, base, progress)
                libraries = sources.libraries_tag()
                labels = {PACKAGES_LABEL: noted_packages(client, libraries)}
                build(client, sources.guest_files(), sources.tag(), libraries, progress, labels)
                remove_old(client, REPOSITORY, sources.tag(), progress)
                remove_old(client, LIBRARIES_REPOSITORY, sources.libraries_tag(), progress)
                remove_old(client, BASE_REPOSITORY, sources.base_tag(), progress)
    except OSError as error:
        if error.errno != ENOSPC:
            raise
        raise StorageFull(
            f"no room to build the sandbox image, in {tempfile.gettempdir()} or {cache_folder()}"
        ) from None
    return sources.tag()


def _is_there(client: docker.APIClient, sources: ImageSources, tag: str, base: str) -> bool:
    """Tell whether the engine has `tag`, on the base that is asked for."""
    labels = image_labels(client, tag)
    wanted = sources.base_tag() if base == "debian" else base
    return labels is not None and (base == "auto" or labels.get(BASE_LABEL) == wanted)


def _build_libraries(client: docker.APIClient, sources: ImageSources, base: str, progress: Progress) -> None:
    base = choose_base(client, sources, base, progress)
    wheels = _wheels(sources, architecture(client), progress)
    files = sources.libraries_files() | {f"wheels/{wheel.name}": wheel for wheel in wheels}
    build(client, files, sources.libraries_tag(), base, progress, {BASE_LABEL: base})


def _wheels(sources: ImageSources, arch: str, progress: Progress) -> list[Path]:
    """Return the locked wheels for the engine's architecture, fetched if the cache lacks them."""
    folder = cache_folder() / "wheels" / f"{digest({'lock': sources.lock})}-{arch}"
    if not folder.is_dir():
        progress("Fetching the sandbox image's wheels")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with unfinished_folder(cache_folder()) as unfinished:
            _fetch_wheels(sources.lock, arch, unfinished / "wheels", progress)
            (unfinished / "wheels").rename(folder)
    return sorted(folder.glob("*.whl"))


def _fetch_wheels(lock: Path, arch: str, folder: Path, progress: Progress) -> None:
    """Fetch with pip, as its user has configured it, for the image's Python and not for the one that runs this."""
    if find_spec("pip") is None:
        raise SandboxError(f"the image's wheels are fetched with pip, which {sys.executable} lacks: install pip there")
    machine = _WHEEL_ARCH.get(arch, arch)
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in _GLIBC_MINORS] + [f"manylinux2014_{machine}"]
    run_program(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        + ["--require-hashes", "--no-deps", f"--requirement={lock}", f"--dest={folder}"]
        + ["--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON_VERSION}"]
        + [f"--platform={name}" for name in platforms],
        progress,
    )


@contextmanager
def _one_build_at_a_time(progress: Progress) -> Iterator[None]:
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "image.lock").open("w") as lock:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            progress("Waiting for another build of the image to end")
            flock(lock, LOCK_EX)
        yield
