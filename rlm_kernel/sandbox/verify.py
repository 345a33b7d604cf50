"""Compares what the guest sees of its limits with what was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec

from rlm_kernel.errors import GuestProtocolError, SandboxRefused
from rlm_kernel.guest.wire import PROTOCOL_VERSION
from rlm_kernel.sandbox.spec import GUEST_PRIVATE, GUEST_TMP, SandboxSpec
from rlm_kernel.types import JSON

SECCOMP_FILTER = 2
PAGE = 4096
OWN_IPC = ("private", "shareable")
"""A namespace of the container's own; Podman says of each one that another container could be told to join it."""
GVISOR_HIDES = frozenset({"cap_amb", "seccomp", "nosuid", "nodev", "pids_max", "memory_max", "cpu_max"})
"""What a guest can't read on gVisor's kernel.

That kernel has no ambient capabilities, honours neither set-uid bits nor device files, and answers every system call
itself, under a filter of its own; the limits are those of its process on the host, which the engine is asked for.
"""


Capabilities = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{1,16}$")]
Number = Annotated[int, msgspec.Meta(ge=0)]


class TmpfsSeen(msgspec.Struct, frozen=True):
    """One tmpfs mount: its size in bytes, its mount options, and whether it is a folder that the guest may write to."""

    size_bytes: Number | None
    options: list[str]
    writable: bool


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """The guest's reading of its own limits; None where it found no value. Sizes are in bytes, CPUs in cores."""

    pid: int
    uid: int
    gid: int
    groups: list[int]
    cap_eff: Capabilities | None
    cap_prm: Capabilities | None
    cap_inh: Capabilities | None
    cap_bnd: Capabilities | None
    cap_amb: Capabilities | None
    no_new_privs: bool | None
    seccomp: Number | None
    rootfs_read_only: bool | None
    tmpfs: dict[str, TmpfsSeen]
    pids_max: Number | None
    memory_max: Number | None
    memory_swap_max: Number | None
    cpu_max: Annotated[float, msgspec.Meta(gt=0)] | None
    swap_total: Number | None = None
    core: Number | None = None
    shared_read_only: bool | None = None
    nofile: Annotated[list[Number], msgspec.Meta(min_length=2, max_length=2)]
    interfaces: list[str] | None
    python: str


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello", tag_field="type"):
    """The first message of a guest."""

    protocol: int
    facts: msgspec.Raw


def read_hello(
    payload: bytes, spec: SandboxSpec, uid: int, *, shared: bool, hidden: frozenset[str] = frozenset()
) -> dict[str, JSON]:
    """Return what the guest saw, or raise `SandboxRefused` naming each limit that does not hold.

    `shared`: the session's folder is mounted, and must be so read-only. `hidden` facts need not be seen, as they are
    proved by `check_unseen`; one that is seen has to be right all the same.
    """
    try:
        hello = msgspec.json.decode(payload, type=Hello)
        if hello.protocol != PROTOCOL_VERSION:
            raise GuestProtocolError(
                f"the sandbox image speaks protocol {hello.protocol}, this host {PROTOCOL_VERSION}: "
                "rebuild it with `rlm-kernel image build`"
            )
        seen = msgspec.json.decode(hello.facts, type=Seen)
    except (ValueError, RecursionError) as error:
        raise GuestProtocolError(f"the container's first message is not a hello: {error}") from None
    _refuse([*_problems(seen, spec, uid, hidden), *_mount_problems(seen, shared)])
    facts: dict[str, JSON] = msgspec.to_builtins(seen)
    return facts


def _mount_problems(seen: Seen, shared: bool) -> Iterator[str]:
    if shared and not seen.shared_read_only:
        yield "the session's folder is writable"


def check_inspected(inspected: dict[str, Any]) -> None:
    """Check in the engine's own words what can't be seen from inside. Raise `SandboxRefused`."""
    host = inspected.get("HostConfig", {})
    problems = [
        f"{what} is {value!r}"
        for what, value, wanted in (
            ("the log driver", host.get("LogConfig", {}).get("Type"), ("none",)),
            ("auto-remove", host.get("AutoRemove"), (True,)),
            ("the ipc mode", host.get("IpcMode"), OWN_IPC),
            ("privileged", host.get("Privileged"), (False,)),
        )
        if value not in wanted
    ]
    _refuse(problems)


def check_unseen(inspected: dict[str, Any], stats: dict[str, Any], spec: SandboxSpec) -> None:
    """Check what a guest on a kernel of its own can't read: `stats` is what the engine reads in the host's cgroups.

    Raise `SandboxRefused`.
    """
    host = inspected.get("HostConfig", {})
    given: list[tuple[str, float | None, float]] = [
        ("memory", stats.get("memory_stats", {}).get("limit"), spec.memory),
        ("memory and swap", host.get("MemorySwap"), spec.memory),
        ("pids", stats.get("pids_stats", {}).get("limit"), spec.pids),
        ("cpu", host.get("NanoCpus"), spec.cpus * 1e9),
    ]
    problems = [
        f"the {name} limit is {value}, not {limit}"
        for name, value, limit in given
        if not value or not 0 < value <= limit * 1.001
    ]
    if not any(option.startswith("no-new-privileges") for option in host.get("SecurityOpt") or ()):
        problems.append("no-new-privileges is not set")
    if "seccomp=unconfined" in (host.get("SecurityOpt") or ()):
        problems.append("seccomp is off")
    _refuse(problems)


def _refuse(problems: list[str]) -> None:
    if problems:
        raise SandboxRefused(
            "the engine did not give the isolation that was asked for, so nothing was run: "
            + "; ".join(problems)
            + ". See docs/runtimes.md for what an engine needs"
        )


def _problems(seen: Seen, spec: SandboxSpec, uid: int, hidden: frozenset[str]) -> Iterator[str]:
    yield from _identity_problems(seen, uid, hidden)
    yield from _file_system_problems(seen, spec, hidden)
    yield from _resource_problems(seen, spec, hidden)
    if seen.interfaces != ["lo"]:
        yield f"there are network interfaces: {seen.interfaces}"


def _identity_problems(seen: Seen, uid: int, hidden: frozenset[str]) -> Iterator[str]:
    if seen.pid != 1:
        yield f"the relay is process {seen.pid}, not 1"
    if seen.uid != uid or seen.gid != uid or not set(seen.groups) <= {uid}:
        yield f"it runs as uid {seen.uid}, gid {seen.gid}, groups {seen.groups}, not as {uid}"
    for name in ("cap_eff", "cap_prm", "cap_inh", "cap_bnd", "cap_amb"):
        value = getattr(seen, name)
        if value is None and name in hidden:
            continue
        if value is None or int(value, 16) != 0:
            yield f"{name} is {value}, so there are capabilities"
    if not seen.no_new_privs:
        yield "no_new_privs is not set"
    if seen.seccomp != SECCOMP_FILTER and "seccomp" not in hidden:
        yield f"no seccomp filter is active (mode {seen.seccomp})"


def _file_system_problems(seen: Seen, spec: SandboxSpec, hidden: frozenset[str]) -> Iterator[str]:
    if not seen.rootfs_read_only:
        yield "the root file system is writable"
    ours = {
        GUEST_TMP: spec.tmp_size,
        GUEST_PRIVATE: spec.private_size,
        "/dev/shm": spec.shm_size,  # noqa: S108 - a path inside the container
    }
    for path, mount in seen.tmpfs.items():
        if mount.writable and path not in ours:
            yield f"{path} is writable"
    options = {"nosuid", "nodev", "noexec"} - hidden
    for path, size in ours.items():
        found = seen.tmpfs.get(path)
        if found is None or found.size_bytes is None or found.size_bytes > size + PAGE:
            yield f"{path} is no tmpfs of at most {size} bytes ({found})"
        elif not options <= set(found.options):
            yield f"{path} lacks nosuid, nodev or noexec"


def _resource_problems(seen: Seen, spec: SandboxSpec, hidden: frozenset[str]) -> Iterator[str]:
    for name, value, limit in (
        ("pids", seen.pids_max, spec.pids),
        ("memory", seen.memory_max, spec.memory),
        ("cpu", seen.cpu_max, spec.cpus),
        ("open files", max(seen.nofile), spec.nofile),
    ):
        if value is None and f"{name}_max" in hidden:
            continue
        if value is None or value > limit * 1.001:
            yield f"the {name} limit is {value}, not {limit}"
    if seen.core != 0:
        yield f"the limit of core dumps is {seen.core}, not 0"
    if seen.memory_swap_max is None:
        if seen.swap_total != 0 and "memory_max" not in hidden:
            yield "swap is not limited"
    elif seen.memory_swap_max > 0:
        yield f"it may use {seen.memory_swap_max} bytes of swap"
