"""What the engine says of itself: versions with known escapes, and the daemon's settings that matter here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from rlm_kernel.audit.claims import Claims, Outcome, Scene, broken, held, limited
from rlm_kernel.audit.versions import AS_OF, Part, unfixed


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """The engine's own words, `docker version` and `docker info`, and the address it was reached at."""

    version: dict[str, Any]
    info: dict[str, Any]
    address: str

    @property
    def name(self) -> str:
        """The engine's name and version."""
        platform = (self.version.get("Platform") or {}).get("Name") or "docker"
        return f"{platform} {self.version.get('Version', '')}".strip()


ENGINE: Claims[EngineFacts] = Claims()
OUT_OF_REACH = (
    "code in a session can't set this off by itself: images, mounts and working directories are this program's own, "
    "nothing is executed in a running container, and code is not root"
)


def runc_version(version: dict[str, Any]) -> str:
    """Return the version of the engine's runc, the package's where that is known; "" if the engine does not say."""
    for component in version.get("Components") or []:
        if str(component.get("Name", "")).lower() == "runc":
            commit = str((component.get("Details") or {}).get("GitCommit", ""))
            packaged = re.match(r"\d+\.\d+\.\d+.*-", commit)
            return commit if packaged else str(component.get("Version", ""))
    return ""


@ENGINE.claim(
    "engine.runc", "runc has no known escape", tried=f"compared its version with those known in {AS_OF} to be open"
)
def _runc(facts: EngineFacts, scene: Scene) -> Outcome:
    if not scene.oci_runtime.startswith(("runc", "io.containerd.runc")):
        return held(f"containers run under {scene.oci_runtime}")
    version = runc_version(facts.version)
    if not version:
        return broken("the engine does not tell runc's version", "update the engine", "could not be checked")
    return _known("runc", version, str(facts.info.get("OperatingSystem", "")))


@ENGINE.claim(
    "engine.desktop", "The engine itself has no known escape", tried=f"compared it with those known in {AS_OF}"
)
def _engine(facts: EngineFacts, scene: Scene) -> Outcome:
    desktop = re.search(r"Docker Desktop (\d+\.\d+\.\d+)", facts.name)
    return _known("docker-desktop", desktop[1], "") if desktop else held(facts.name)


def _known(part: Part, version: str, system: str) -> Outcome:
    found = unfixed(part, version, system)
    if not found:
        return held(f"{part} {version}")
    seen = f"{part} {version}: " + "; ".join(f"{escape.name} ({escape.what})" for escape, _ in found)
    if any(escape.severe and mendable for escape, mendable in found):
        return broken(seen, f"update {part}, or run sessions under gVisor's runsc", OUT_OF_REACH)
    where = f"{system} has no fix yet" if system else "no fix"
    return limited(seen, f"{where}; {OUT_OF_REACH}", "run sessions under gVisor's runsc, or take runc from upstream")


@ENGINE.claim("engine.seccomp", "The engine filters system calls by default", tried="read docker info")  # CIS 2.16
def _seccomp(facts: EngineFacts, scene: Scene) -> Outcome:
    options = _options(facts)
    profile = next((option for option in options if option.startswith("name=seccomp")), "")
    remedy = "install libseccomp, and remove `seccomp-profile` from /etc/docker/daemon.json"
    if not profile or "unconfined" in profile:
        return broken(profile or f"no seccomp among {options}", remedy)
    return held(profile)


@ENGINE.claim("engine.user-namespace", "The engine's containers have user ids of their own", tried="read docker info")
def _user_namespace(facts: EngineFacts, scene: Scene) -> Outcome:  # CIS 2.9
    options = [option for option in _options(facts) if option.startswith(("name=userns", "name=rootless"))]
    if options:
        return held(", ".join(options))
    if scene.own_kernel:
        return held(f"not needed under {scene.oci_runtime}")
    return limited(
        "neither userns-remap nor rootless",
        "a container's root would be the host's; sessions are never root and can't become it",
        'set "userns-remap": "default" in /etc/docker/daemon.json, or use a rootless engine or gVisor\'s runsc',
    )


@ENGINE.claim("engine.limits", "The engine can limit memory, swap, processes and CPU", tried="read docker info")
def _limits(facts: EngineFacts, scene: Scene) -> Outcome:
    names = ("MemoryLimit", "PidsLimit", "CpuCfsQuota")
    missing = [name for name in names if facts.info.get(name) is not True]
    if missing:
        return broken(
            f"can't: {', '.join(missing)}", "use cgroup v2 with the controllers delegated, or a rootful engine"
        )
    return held(f"it can, with cgroup v{facts.info.get('CgroupVersion', '1')}")


@ENGINE.claim("engine.address", "Nobody else can reach the engine over the network", tried="looked at its address")
def _address(facts: EngineFacts, scene: Scene) -> Outcome:  # CIS 2.7
    address = facts.address.partition("?")[0]
    if address.startswith("http://") and not re.match(r"http://(localhost|127\.|\[::1\])", address):
        return broken(address, "give the engine TLS with client certificates, or reach it over ssh")
    return held(address)


def _options(facts: EngineFacts) -> list[str]:
    return [str(option) for option in facts.info.get("SecurityOptions") or []]
