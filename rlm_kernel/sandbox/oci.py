"""The OCI runtimes of an engine, in the engine's own words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from rlm_kernel.errors import SandboxRefused
from rlm_kernel.sandbox.verify import GVISOR_HIDES

HOST_SOCKETS = ("open", "all", "true")
"""What gVisor's option for the host's unix sockets says where a guest may connect to one; it had another name once."""


@dataclass(frozen=True, slots=True)
class OciRuntime:
    """The runtime that a container is started with; without a `name` it is the engine's default one, whatever that is.

    `wanted` is the same where it was asked for. `hides` are the facts that a guest on it can't
    read, since it has a kernel of its own. `host_sockets`: the guest may connect to a unix socket of the host.
    """

    name: str = ""
    wanted: str | None = None
    hides: frozenset[str] = frozenset()
    host_sockets: bool = True


def find_runtime(info: Mapping[str, Any], wanted: str | None) -> OciRuntime:
    """Return the engine's runtime `wanted`, or its default one. Raise `SandboxRefused` if it has no such runtime."""
    known: dict[str, Any] = info.get("Runtimes") or {}
    if wanted is not None and wanted not in known:
        raise SandboxRefused(
            f"the engine has no OCI runtime {wanted!r}, only {', '.join(sorted(known)) or 'its default one'}: `make "
            "gvisor` in a checkout of rlm_kernel installs gVisor and registers it as runsc; for others add them to "
            '"runtimes" in the engine\'s daemon.json. See docs/runtimes.md'
        )
    name = wanted or str(info.get("DefaultRuntime") or "")
    entry = known.get(name) or {}
    program = PurePosixPath(entry.get("path") or "").name
    if not program.startswith("runsc") and ".runsc." not in str(entry.get("runtimeType")):
        return OciRuntime(name, wanted)
    return OciRuntime(name, wanted, GVISOR_HIDES, _opens_host_sockets(entry.get("runtimeArgs") or []))


def _opens_host_sockets(arguments: list[str]) -> bool:
    options = dict(argument.lstrip("-").partition("=")[::2] for argument in arguments)
    said = options.get("host-uds", options.get("fsgofer-host-uds"))
    return said in (*HOST_SOCKETS, "") if said is not None else False


def check_used(info: Mapping[str, Any], inspected: Mapping[str, Any], runtime: OciRuntime) -> None:
    """Raise `SandboxRefused` if the engine took another runtime: Podman's Docker interface passes over the name."""
    said = inspected["HostConfig"].get("Runtime")
    used = said if said in (info.get("Runtimes") or {}) else info.get("DefaultRuntime")
    if runtime.name and used != runtime.name:
        raise SandboxRefused(
            f"the engine was asked for the OCI runtime {runtime.name!r} and took {used or said!r}, so nothing was run: "
            "start Podman's service with it (`podman --runtime PATH system service`), or use Docker"
        )


def remedy(info: Mapping[str, Any]) -> str:
    """Return what there is to say about an engine that did not give what was asked for."""
    rootless = info.get("Rootless") or any("rootless" in option for option in info.get("SecurityOptions") or ())
    if rootless and info.get("CgroupVersion") == "1":
        return (
            "; a rootless engine can limit nothing with cgroup version 1, which this machine has: boot it with version "
            "2 (systemd.unified_cgroup_hierarchy=1), or use an engine that runs as root"
        )
    return ""
