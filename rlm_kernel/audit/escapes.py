"""Ways out of a container: the claims that the escape cell's attempts decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec

from rlm_kernel.audit.claims import Claims, Outcome, Scene, broken, held, limited

Name = Annotated[str, msgspec.Meta(max_length=100)]
Group = Annotated[dict[Name, Name], msgspec.Meta(max_length=100)]
Attempts = Annotated[dict[Name, Group], msgspec.Meta(max_length=100)]
"""What the escape cell answers: by group and attempt, "worked", "not there" or the error's name."""

ESCAPES: Claims[Mapping[str, Mapping[str, str]]] = Claims()
REFUSED = ("EPERM", "EACCES", "ENOSYS")
"""How a system call ends that a filter, or the want of a capability, keeps from the kernel's code for it."""


PROFILE = "use a newer engine, whose default seccomp profile closes this, or gVisor's runsc"
NODES = ("make a disk's node", "make /dev/mem")
LISTED = ("/proc/1/environ", "/proc/1/maps", "/proc/1/fd")
ALL = ("",)


@dataclass(frozen=True, slots=True)
class Way:
    """One group of attempts. Of `reached` ones an error from within the kernel counts as success already.

    The attempts whose names begin with one of `own` may work under a runtime with a kernel of its own, where they mean
    that kernel only.
    """

    title: str
    attempts: int
    remedy: str = "let the engine give what is asked for; see docs/security.md"
    reached: bool = False
    own: tuple[str, ...] = ()


WAYS = {
    "mounts": Way("Nothing can be mounted, unmounted or made the root", 8, own=ALL),
    "namespaces": Way("No namespace can be made, and the host name not be set", 6, own=ALL),
    "kernel": Way("Calls that reach deep into the kernel are refused", 21, PROFILE, reached=True, own=ALL),
    "sockets": Way("No raw or packet socket can be opened, and none to the hypervisor or the kernel's cryptography", 4),
    "relay": Way("The memory of PID 1, and what it has open, is out of reach", 10, own=LISTED),
    "descriptors": Way(
        "No descriptor leads out of the container", 1, "update the engine's runc, or use gVisor's runsc"
    ),
    "own-program": Way("The programs that run can't be overwritten, through /proc/self/exe either", 5),
    "cgroup": Way("No cgroup can be mounted, made or given a release agent", 2, own=ALL),
    "knobs": Way("The kernel's knobs in /proc and /sys can't be opened for writing", 10, own=ALL),
    "devices": Way("No disk, memory or virtualization device can be made or opened", 15, own=NODES),
    "engine": Way("No engine's or system service's socket is there", 7),
    "root": Way("Root can't be reached", 3, own=ALL),
    "shared-folder": Way("The shared folder and the host's socket can't be swapped or changed", 8),
}


def _check(group: str, way: Way) -> None:
    @ESCAPES.claim(f"escape.{group}", way.title, tried=f"{way.attempts} ways, in a cell")
    def check(attempts: Mapping[str, Mapping[str, str]], scene: Scene) -> Outcome:
        tried = attempts.get(group, {})
        if len(tried) != way.attempts:
            return broken(f"{len(tried)} of {way.attempts} attempts", "run the audit again", "could not be checked")
        worked = {name: outcome for name, outcome in tried.items() if _worked(outcome, way)}
        seen = ", ".join(f"{name}: {outcome}" for name, outcome in worked.items())
        if not worked:
            return held(f"refused: {', '.join(sorted(set(tried.values())))}")
        if scene.own_kernel and all(name.startswith(way.own) for name in worked):
            reason = f"{scene.oci_runtime}'s own kernel answers this, and shows nothing of the host's"
            return limited(seen, reason, "none is needed")
        return broken(seen, way.remedy)


def _worked(outcome: str, way: Way) -> bool:
    return outcome not in REFUSED if way.reached else outcome == "worked"


for _group, _way in WAYS.items():
    _check(_group, _way)
