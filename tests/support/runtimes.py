"""The kinds of engine and OCI runtime that tests and benchmarks use, as far as this machine has them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from rlm_kernel.sandbox.engine import connect
from rlm_kernel.sandbox.image import image_tag

KINDS = ("docker-runc", "docker-runsc", "podman-runc")


@cache
def missing(kind: str) -> str:
    """Return why this machine can't have sessions of a kind; nothing if it can."""
    if kind == "podman-runc":
        if os.geteuid() != 0:
            return "Podman as root takes root"
        return "" if shutil.which("podman") else "there is no podman: `make runtimes` installs it"
    if kind == "docker-runsc":
        client = connect()
        known = client.info()["Runtimes"]
        client.close()
        return "" if "runsc" in known else "the engine has no gVisor: `make gvisor` installs and registers it"
    return ""


@contextmanager
def podman_service(command: Sequence[str], folder: Path) -> Iterator[str]:
    """Run Podman's Docker interface with the sandbox image in it. Yield its address. `command` is how Podman is run."""
    archive = folder / "image.tar"
    with archive.open("wb") as file:
        subprocess.run(["docker", "save", image_tag()], stdout=file, check=True)
    with archive.open("rb") as file:
        subprocess.run([*command, "load", "--quiet"], stdin=file, check=True, stdout=subprocess.DEVNULL)
    archive.unlink()
    address = f"unix://{folder}/podman.sock"
    ready = subprocess.Popen([*command, "system", "service", "--time=0", address], stderr=subprocess.DEVNULL)
    try:
        _wait_for(folder / "podman.sock", ready)
        yield address
    finally:
        ready.terminate()
        ready.wait(20)


def _wait_for(socket: Path, service: subprocess.Popen[bytes]) -> None:
    """Wait until the service listens, which it tells nobody."""
    while not socket.exists():
        if service.poll() is not None:
            raise RuntimeError(f"podman's service ended with {service.returncode}")
        time.sleep(0.05)


@contextmanager
def podman_as_root() -> Iterator[str]:
    """Run Podman as root with a storage of its own, so that nothing of this is left. Yield its address."""
    folder = Path(tempfile.mkdtemp(prefix="rlm-kernel-podman-"))
    storage = folder / "storage"
    places = [f"--root={storage}", f"--runroot={folder}/run"]
    try:
        with podman_service(["podman", "--cgroup-manager=cgroupfs", *places], folder) as address:
            yield address
    finally:
        while (storage / "overlay").is_mount():  # Podman may mount it on itself more than once
            subprocess.run(["umount", storage / "overlay"], check=True)
        shutil.rmtree(folder)
