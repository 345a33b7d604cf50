"""The sandbox image, built when the name that its inputs give it is missing from the engine. Everything here blocks."""

from __future__ import annotations

import platform
import secrets
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from errno import ENOSPC
from fcntl import LOCK_EX, LOCK_NB, flock
from importlib.util import find_spec
from pathlib import Path
from threading import Timer
from typing import Any

import docker
import platformdirs
import requests
from docker.errors import APIError, ImageNotFound

from rlm_kernel.errors import EngineTimeout, EngineUnavailable, ImageMissing, SandboxError, StorageFull
from rlm_kernel.sandbox.image_sources import ImageSources, digest, write_context

Progress = Callable[[str], None]

PYTHON_BASE = "python:3.11-slim-bookworm"
PYTHON_VERSION = "3.11"
BUILD_LABEL = "io.rlm-kernel.build"
REGISTRY_DEADLINE = 15
BUILD_DEADLINE = 600
"""Seconds without a word from the engine, or for one program on the host, after which a build has failed."""

_WHEEL_ARCH = {"amd64": "x86_64", "arm64": "aarch64"}
_GLIBC_MINORS = range(17, 37)
"""The manylinux levels up to the glibc of Debian bookworm, 2.36; pip knows the older ones by manylinux2014."""
_ENGINE_CHATTER = (" ---> ", "Removing intermediate container")


def image_tag() -> str:
    """Return the sandbox image's name, "rlm-kernel-sandbox:" and 12 digits made from all of its inputs."""
    return ImageSources.find().tag()


def ensure_image(client: docker.APIClient, *, base: str = "auto", progress: Progress, rebuild: bool = False) -> str:
    """Return the sandbox image's name; build the image first if the engine lacks it, or if `rebuild`.

    `base` is an image to build on, "debian" for the one made from Debian's packages, or "auto": `PYTHON_BASE` where the
    engine has it or a registry answers, else Debian's. `progress` is told, line by line, what goes on. Two builds never
    run at once. Raise `SandboxError`, saying what failed and the way out, or `StorageFull`; a build that failed or was
    interrupted leaves no image.
    """
    sources = ImageSources.find()
    tag = sources.tag()
    try:
        with _one_build_at_a_time(progress):
            if rebuild or not _image_id(client, tag):
                base = _choose_base(client, sources, base, progress)
                wheels = _wheels(sources, _architecture(client), progress)
                files = sources.files() | {f"wheels/{wheel.name}": wheel for wheel in wheels}
                _build(client, files, tag, base, progress)
    except OSError as error:
        if error.errno != ENOSPC:
            raise
        raise StorageFull(f"no room to build the sandbox image, in {tempfile.gettempdir()} or {_cache()}") from None
    return tag


def _choose_base(client: docker.APIClient, sources: ImageSources, base: str, progress: Progress) -> str:
    if base == "auto":
        if _image_id(client, PYTHON_BASE) or _registry_has(client, PYTHON_BASE):
            return PYTHON_BASE
        progress(f"No registry answers for {PYTHON_BASE}; making a base from Debian packages instead")
    elif base != "debian":
        return base
    tag = sources.base_tag()
    if not _image_id(client, tag):
        _make_debian_base(client, sources, tag, progress)
    return tag


def _make_debian_base(client: docker.APIClient, sources: ImageSources, tag: str, progress: Progress) -> None:
    with tempfile.TemporaryDirectory(prefix="rlm-kernel-base-") as folder:
        tar = Path(folder) / "base.tar"
        try:
            _run(["sh", str(sources.base_script), str(tar), _architecture(client)], progress)
        except SandboxError as error:
            raise ImageMissing(
                f"the sandbox image has no base: making one from Debian packages failed. Make a registry with "
                f"{PYTHON_BASE} reachable, load that image with `docker load`, name another one with "
                f"`rlm-kernel image build --base IMAGE`, or repair this: {error}"
            ) from None
        _build(client, {"Dockerfile": sources.images / "Dockerfile.base", "base.tar": tar}, tag, "scratch", progress)


def _wheels(sources: ImageSources, arch: str, progress: Progress) -> list[Path]:
    """Return the locked wheels for the engine's architecture, fetched if the cache lacks them."""
    folder = _cache() / "wheels" / f"{digest({'lock': sources.lock})}-{arch}"
    if not folder.is_dir():
        progress("Fetching the sandbox image's wheels")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as unfinished:
            _fetch_wheels(sources.lock, arch, Path(unfinished, "wheels"), progress)
            Path(unfinished, "wheels").rename(folder)
    return sorted(folder.glob("*.whl"))


def _fetch_wheels(lock: Path, arch: str, folder: Path, progress: Progress) -> None:
    """Fetch with pip, as its user has configured it, for the image's Python and not for the one that runs this."""
    if find_spec("pip") is None:
        raise SandboxError(f"the image's wheels are fetched with pip, which {sys.executable} lacks: install pip there")
    machine = _WHEEL_ARCH.get(arch, arch)
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in _GLIBC_MINORS] + [f"manylinux2014_{machine}"]
    _run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        + ["--require-hashes", "--no-deps", f"--requirement={lock}", f"--dest={folder}"]
        + ["--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON_VERSION}"]
        + [f"--platform={name}" for name in platforms],
        progress,
    )


def _build(client: docker.APIClient, files: Mapping[str, Path], tag: str, base: str, progress: Progress) -> None:
    """Build `tag` on `base` from `files` alone, without a network, and leave no nameless image behind."""
    what, build = f"{tag} on {base}", secrets.token_hex(8)
    progress(f"Building {what}")
    labels = {"org.opencontainers.image.version": tag.partition(":")[2], "org.opencontainers.image.base.name": base}
    with tempfile.TemporaryFile() as context, _engine_errors(f"build {what}"):
        write_context(context, files)
        context.seek(0)
        replaced = _image_id(client, tag)
        replies = client.build(
            fileobj=context, custom_context=True, tag=tag, buildargs={"BASE": base, "BUILD": build}, labels=labels,
            network_mode="none", rm=True, forcerm=True, decode=True, timeout=BUILD_DEADLINE,
        )  # fmt: skip
        try:
            _follow(replies, what, progress)
        finally:
            client.prune_images({"dangling": True, "label": [f"{BUILD_LABEL}={build}"]})  # type: ignore[no-untyped-call]
        if replaced not in (None, _image_id(client, tag)):
            with suppress(APIError):  # a running session may still use it
                client.remove_image(replaced)


def _follow(replies: Iterator[dict[str, Any]], what: str, progress: Progress) -> None:
    """Pass on what the engine says about a build until it ends. Raise `SandboxError` if it fails."""
    said: deque[str] = deque(maxlen=20)
    for reply in replies:
        if "error" in reply:
            log = "\n  ".join([*said, str(reply["error"])])
            raise SandboxError(f"could not build {what}; the end of its log:\n  {log}")
        for line in str(reply.get("stream") or reply.get("status") or "").splitlines():
            if line.strip() and "progress" not in reply and not line.startswith(_ENGINE_CHATTER):
                said.append(line)
                progress(line)


def _run(command: Sequence[str], progress: Progress) -> None:
    """Run a program on the host to its end, within `BUILD_DEADLINE`. Raise `SandboxError` with its last lines."""
    said: deque[str] = deque(maxlen=20)
    with subprocess.Popen(  # noqa: S603 - a list of our own, no shell
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        deadline = Timer(BUILD_DEADLINE, process.terminate)
        deadline.start()
        try:
            assert process.stdout is not None
            for line in map(str.rstrip, process.stdout):
                said.append(line)
                progress(line)
        except BaseException:
            process.terminate()
            raise
        finally:
            deadline.cancel()
    if process.returncode:
        raise SandboxError(f"`{' '.join(command)}` failed ({process.returncode}):\n  " + "\n  ".join(said))


def _image_id(client: docker.APIClient, name: str) -> str | None:
    with _engine_errors(f"look for the image {name}"):
        try:
            return str(client.inspect_image(name)["Id"])  # type: ignore[no-untyped-call]
        except ImageNotFound:
            return None


def _registry_has(client: docker.APIClient, name: str) -> bool:
    usual, client.timeout = client.timeout, REGISTRY_DEADLINE
    try:
        client.inspect_distribution(name)  # type: ignore[no-untyped-call]
    except (APIError, requests.RequestException):
        return False
    finally:
        client.timeout = usual
    return True


def _architecture(client: docker.APIClient) -> str:
    """Return the engine's architecture, in the names that Go and Debian share."""
    with _engine_errors("tell its architecture"):
        return str(client.version().get("Arch") or platform.machine())


@contextmanager
def _engine_errors(what: str) -> Iterator[None]:
    try:
        yield
    except APIError as error:
        raise SandboxError(f"the engine refused to {what}: {error.explanation or error}") from None
    except requests.Timeout:
        raise EngineTimeout(f"the engine did not {what} in time: is it overloaded?") from None
    except requests.RequestException as error:
        raise EngineUnavailable(f"the engine went away while it was to {what} ({error}): start it again") from None


@contextmanager
def _one_build_at_a_time(progress: Progress) -> Iterator[None]:
    folder = _cache()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "image.lock").open("w") as lock:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            progress("Waiting for another build of the image to end")
            flock(lock, LOCK_EX)
        yield


def _cache() -> Path:
    return platformdirs.user_cache_path("rlm-kernel", appauthor=False)
