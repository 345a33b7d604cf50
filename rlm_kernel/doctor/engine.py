"""What the container engine is and can do, or why it can't be reached."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests
from docker.context.config import get_current_context_name

from rlm_kernel.config import Settings
from rlm_kernel.doctor.check import Check, note, ok, problem
from rlm_kernel.errors import EngineUnavailable
from rlm_kernel.sandbox.engine import REMEDY, connect
from rlm_kernel.sandbox.image import image_tag
from rlm_kernel.sandbox.image_base import PYTHON_BASE
from rlm_kernel.sandbox.image_sources import BASE_REPOSITORY

DEADLINE = 2.0
OLDEST_ENGINE = (20, 10)
REACHED = ("engine", "A container engine answers")
CGROUP_REMEDY = (
    "boot with cgroup v2 and delegate its controllers: set `Delegate=cpu cpuset io memory pids` in "
    "/etc/systemd/system/user@.service.d/delegate.conf, then `sudo systemctl daemon-reload` and log in again"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What an engine said; `images` are the names that it has."""

    version: dict[str, Any]
    info: dict[str, Any]
    images: frozenset[str]


def check_engine(settings: Settings) -> Iterator[Check]:
    """Reach the engine and look at all that sessions need of it."""
    where = _where(settings.docker_host)
    try:
        with closing(connect(settings.docker_host, deadline=DEADLINE)) as client:
            engine = _ask(client)
    except EngineUnavailable as error:
        yield problem(*REACHED, str(error).removesuffix(f": {REMEDY}"), unreachable_remedy(str(error)))
        return
    except (docker.errors.DockerException, requests.RequestException) as error:
        yield problem(*REACHED, f"{where} answers with an error: {error}", "look into the engine's log, and restart it")
        return
    yield from judge(engine, where, settings.oci_runtime)


def _where(docker_host: str | None) -> str:
    if docker_host:
        return f"{docker_host} (--docker-host)"
    if os.environ.get("DOCKER_HOST"):
        return f"{os.environ['DOCKER_HOST']} (DOCKER_HOST)"
    return f"the Docker context {get_current_context_name()!r}"


def _ask(client: docker.APIClient) -> Engine:
    names = [name for image in client.images() for name in image.get("RepoTags") or []]
    return Engine(version=client.version(), info=client.info(), images=frozenset(names))


def unreachable_remedy(error: str) -> str:
    """Return what to do about an engine that could not be reached, from the words of the system's error."""
    if "Permission denied" in error:
        return "sudo usermod -aG docker $USER, then log in again; whoever is in that group is root on this machine"
    if "DOCKER_HOST" in error or "tcp://" in error or "ssh://" in error:
        return "start the engine there, or `unset DOCKER_HOST` for this machine's own one"
    if "context does not exist" in error:
        return "docker context use default"
    if shutil.which("dockerd"):
        return "sudo systemctl start docker"
    if shutil.which("apt-get"):
        return "sudo apt-get install docker.io (or `make engine` in a checkout of rlm_kernel)"
    return "install Docker Engine, or start it and set DOCKER_HOST to its address"


def judge(engine: Engine, where: str, oci_runtime: str | None = None) -> Iterator[Check]:
    """Yield what an engine that answers can and can't do."""
    yield _version(engine, where)
    yield _limits(engine)
    yield _filter(engine)
    yield _storage(engine)
    yield from _image(engine)
    yield _runtimes(engine, oci_runtime)
    yield from _room(engine)


def _version(engine: Engine, where: str) -> Check:
    version = str(engine.version.get("Version", ""))
    seen = f"{(engine.version.get('Platform') or {}).get('Name') or 'docker'} {version} at {where}"
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    is_docker = any(part.get("Name") == "Engine" for part in engine.version.get("Components") or [])
    if is_docker and numbers < OLDEST_ENGINE:
        return problem(*REACHED, seen, "update it: 20.10 is the oldest that sessions were tried with")
    if engine.version.get("Os") != "linux":
        return problem(*REACHED, seen, "switch it to Linux containers")
    return ok(*REACHED, seen)


def _limits(engine: Engine) -> Check:
    what = ("limits", "It can limit memory, processes and CPUs")
    names = {"MemoryLimit": "memory", "PidsLimit": "processes", "CpuCfsQuota": "CPUs"}
    missing = [text for name, text in names.items() if engine.info.get(name) is not True]
    version = f"cgroup v{engine.info.get('CgroupVersion', '1')}"
    if missing:
        return problem(*what, f"{version}, without limits on {', '.join(missing)}", CGROUP_REMEDY)
    if engine.info.get("SwapLimit") is not True:
        remedy = "add swapaccount=1 to the kernel's command line, or switch swap off: sudo swapoff -a"
        return note(*what, f"{version}, without a limit on swap: where there is swap, sessions are refused", remedy)
    return ok(*what, version)


def _filter(engine: Engine) -> Check:
    what = ("seccomp", "It filters system calls")
    options = [str(option) for option in engine.info.get("SecurityOptions") or []]
    profile = next((option for option in options if option.startswith("name=seccomp")), "")
    if not profile or "unconfined" in profile:
        return problem(
            *what, profile or "no seccomp", "remove `seccomp-profile` from /etc/docker/daemon.json; restart it"
        )
    return ok(*what, ", ".join(options))


def _storage(engine: Engine) -> Check:
    what = ("storage", "It starts containers without copying their image")
    driver = str(engine.info.get("Driver", "unknown"))
    if driver == "vfs":
        return note(*what, "the driver vfs copies the image for each session", "use overlay2 on ext4 or xfs")
    return ok(*what, driver)


def _image(engine: Engine) -> Iterator[Check]:
    what = ("image", "The sandbox image is built and current")
    tag = image_tag()
    if tag in engine.images:
        yield ok(*what, tag)
        return
    old = [name for name in engine.images if name.startswith(tag.partition(":")[0] + ":")]
    seen = f"{tag} is not there" + (f", only older ones: {', '.join(sorted(old))}" if old else "")
    yield problem(*what, seen, "rlm-kernel image build")
    yield _base(engine)


def _base(engine: Engine) -> Check:
    what = ("base", "There is something to build the image on")
    ready = [name for name in engine.images if name == PYTHON_BASE or name.startswith(f"{BASE_REPOSITORY}:")]
    if ready:
        return ok(*what, ", ".join(ready))
    if shutil.which("mmdebstrap"):
        return ok(*what, f"{PYTHON_BASE} if a registry gives it, else Debian's packages by mmdebstrap")
    remedy = f"docker pull {PYTHON_BASE}; without a registry: sudo apt-get install mmdebstrap debian-archive-keyring"
    return note(*what, f"only if a registry gives {PYTHON_BASE}", remedy)


def _runtimes(engine: Engine, wanted: str | None) -> Check:
    names = sorted(name for name in engine.info.get("Runtimes") or {} if not name.startswith("io.containerd"))
    default = engine.info.get("DefaultRuntime", "unknown")
    seen = f"{', '.join(names) or 'unknown'}; {default} is the default; `rlm-kernel audit` tells what it holds"
    if wanted is not None and wanted not in names:
        remedy = "choose another --oci-runtime; `make gvisor` in a checkout of rlm_kernel adds runsc"
        return problem("runtimes", "Its OCI runtimes", f"{seen}; {wanted} is asked for and not there", remedy)
    return ok("runtimes", "Its OCI runtimes", seen)


def _room(engine: Engine) -> Iterator[Check]:
    """Look at the room for images, where the engine's folder is on this machine."""
    root = Path(str(engine.info.get("DockerRootDir", "")))
    if not root.is_absolute() or not root.is_dir():
        return
    free = shutil.disk_usage(root).free
    what = ("engine-disk", "It has room for images")
    seen = f"{free / 2**20:,.0f} MiB free at {root}"
    yield ok(*what, seen) if free >= 2**30 else note(*what, seen, "docker image prune")
