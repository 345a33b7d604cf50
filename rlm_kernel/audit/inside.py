"""What code inside can see: the claims that the probe cell's readings decide."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from rlm_kernel.audit.claims import Claims, Outcome, Scene, broken, held, limited
from rlm_kernel.sandbox.spec import GUEST_PRIVATE, GUEST_SHARED, GUEST_TMP

Line = Annotated[str, msgspec.Meta(max_length=4096)]
Lines = Annotated[list[Line], msgspec.Meta(max_length=10_000)]
RECREATE = "let the engine give what is asked for; see docs/security.md"
SANDBOXED = "choose a sandboxed runtime such as gVisor's runsc"


class Mount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row of mountinfo: `root` is the path on the device that is mounted at `path`."""

    path: Line
    root: Line
    kind: Line
    source: Line
    read_only: bool


class Inside(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The probe cell's answer."""

    ids: Annotated[list[int], msgspec.Meta(min_length=6, max_length=100)]
    status: dict[Line, Line]
    uid_map: Lines
    label: Line
    hostname: Line
    processes: int
    mounts: Annotated[list[Mount], msgspec.Meta(min_length=1, max_length=1000)]
    masked: dict[Line, Line]
    shared: dict[Line, Line]
    devices: Lines
    privileged_files: Lines
    descriptors: Lines
    environment: Lines
    interfaces: Lines
    routes: int
    abstract_sockets: Lines
    network: dict[Line, Line]


INSIDE: Claims[Inside] = Claims()

CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
DEVICES = frozenset(
    f"/dev/{name}" for name in ("console", "full", "null", "ptmx", "pts/ptmx", "random", "tty", "urandom", "zero")
)
WRITABLE = (GUEST_TMP, GUEST_PRIVATE, "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")  # noqa: S108 - in the container
ENGINE_FILES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
KERNEL_FILES = ("proc", "sysfs", "cgroup", "cgroup2", "tmpfs", "devpts", "mqueue", "devtmpfs")
ENVIRONMENT = frozenset(
    re.findall(
        r"\w+",
        """
        CLICOLOR CLICOLOR_FORCE FORCE_COLOR GIT_PAGER HOME HOSTNAME IPYTHONDIR JUPYTER_RUNTIME_DIR LANG LC_CTYPE
        MPLBACKEND PAGER PATH PYTHONDONTWRITEBYTECODE PYTHONHASHSEED PYTHONPATH PYTHONUNBUFFERED TERM USER
        GPG_KEY PYTHON_SHA256 PYTHON_VERSION container
        """,
    )
)
HARMLESS_DESCRIPTORS = ("pipe:[", "socket:[", "anon_inode:", "/dev/null", "/dev/urandom", "/dev/random", "/memfd:")
OWN_FOLDERS = (f"{GUEST_TMP}/", f"{GUEST_PRIVATE}/", f"{GUEST_SHARED}/context", "/opt/rlm/", "/usr/")


@INSIDE.claim("inside.user", "Code runs as a user of its own, not as root", tried="read the user and group ids")
def _user(inside: Inside, scene: Scene) -> Outcome:
    seen = f"uid {inside.ids[0]}, gid {inside.ids[3]}, groups {sorted(set(inside.ids[6:]))}"
    if set(inside.ids) != {scene.uid} or not scene.spec.first_uid <= scene.uid <= scene.spec.last_uid:
        return broken(seen, RECREATE, f"it should be {scene.uid} throughout")
    return held(seen)


@INSIDE.claim("inside.capabilities", "Code has no capabilities", tried="read the five sets in /proc/self/status")
def _capabilities(inside: Inside, scene: Scene) -> Outcome:
    unknown = {"CapAmb"} if scene.own_kernel else set()  # gVisor's kernel has no such set
    sets = {name: value for name in CAPABILITY_SETS if (value := inside.status.get(name, "")) or name not in unknown}
    if any(not value or value.strip("0") for value in sets.values()):
        return broken(", ".join(f"{name} {value or 'unknown'}" for name, value in sets.items()), RECREATE)
    return held("all are empty")


@INSIDE.claim("inside.no-new-privileges", "No program can gain privileges", tried="read NoNewPrivs of PID 1")
def _no_new_privileges(inside: Inside, scene: Scene) -> Outcome:
    value = inside.status.get("NoNewPrivs", "")
    if not value and scene.own_kernel:
        return held(f"{scene.oci_runtime} shows it to the first process alone, which has to find it set to start")
    return held("it is set") if value == "1" else broken(f"NoNewPrivs is {value or 'unknown'}", RECREATE)


@INSIDE.claim("inside.seccomp", "The engine filters system calls", tried="read the mode of PID 1")
def _seccomp(inside: Inside, scene: Scene) -> Outcome:
    mode = inside.status.get("Seccomp", "")
    if mode == "2":
        return held("a filter is active")
    if scene.own_kernel:
        return limited(
            f"mode {mode or 'unknown'}",
            f"{scene.oci_runtime} answers system calls itself, and filters its own towards the host",
            "none is needed",
        )
    return broken(f"mode {mode or 'unknown'}", "start the engine with its default seccomp profile")


@INSIDE.claim("inside.privileged-files", "The image has no setuid programs", tried="looked at every file")
def _privileged_files(inside: Inside, scene: Scene) -> Outcome:
    if inside.privileged_files:
        return broken(_some(inside.privileged_files), "make the image anew with `rlm-kernel image build --rebuild`")
    return held("none, and none with file capabilities")


@INSIDE.claim("inside.writable", "Nothing but sized scratch space can be written", tried="read the mount table")
def _writable(inside: Inside, scene: Scene) -> Outcome:
    writable = [mount.path for mount in inside.mounts if not mount.read_only and not _is_kernels(mount)]
    beyond = [path for path in writable if path not in WRITABLE]
    if beyond or not any(mount.path == "/" for mount in inside.mounts):
        return broken(f"writable: {_some(beyond) or 'no root is listed'}", RECREATE)
    return held(f"writable: {_some(writable)}")


def _is_kernels(mount: Mount) -> bool:
    """Tell whether a mount is the kernel's view of this container, or a mask over a part of it."""
    below = mount.path.startswith(("/proc/", "/sys/"))
    return mount.path in ("/proc", "/sys") or (below and mount.kind in KERNEL_FILES)


@INSIDE.claim(
    "inside.mounts", "Nothing of the host is mounted but the session's own folder", tried="read the mount table"
)
def _mounts(inside: Inside, scene: Scene) -> Outcome:
    allowed = ("/", GUEST_SHARED, *ENGINE_FILES)
    foreign = [mount for mount in inside.mounts if mount.kind not in KERNEL_FILES and mount.path not in allowed]
    writable = [mount.path for mount in inside.mounts if mount.path == GUEST_SHARED and not mount.read_only]
    if foreign or writable:
        return broken(_some([*(f"{mount.path} ({mount.kind})" for mount in foreign), *writable]), RECREATE)
    return held(_some([mount.path for mount in inside.mounts if mount.kind not in KERNEL_FILES]))


@INSIDE.claim(
    "inside.host-paths", "The mount table names no paths of the host", tried="looked for them in /proc/self/mountinfo"
)
def _host_paths(inside: Inside, scene: Scene) -> Outcome:
    named = [mount.root for mount in inside.mounts if mount.path in (GUEST_SHARED, *ENGINE_FILES) and mount.root != "/"]
    if not named:
        return held("none")
    return limited(
        _some(named),
        "a bind mount shows where it comes from; none of these places can be reached",
        "--carrier attach mounts no folder of ours, and a --state-dir such as /var/lib/rlm_kernel names no user",
    )


@INSIDE.claim(
    "inside.masks",
    "Sensitive parts of /proc and /sys are masked",
    tried="read /proc/kcore, /proc/keys, /sys/firmware …",
)
def _masks(inside: Inside, scene: Scene) -> Outcome:
    readable = [path for path, state in inside.masked.items() if state not in ("absent", "denied", "empty")]
    if len(inside.masked) < 10 or (readable and not scene.own_kernel):
        return broken(f"readable: {_some(readable) or 'unknown'}", "create containers without `systempaths=unconfined`")
    return held(f"{len(inside.masked)} places: absent, empty or closed")


@INSIDE.claim(
    "inside.shared-kernel",
    "The host's kernel and its figures can't be seen",
    tried="read /proc/cmdline, /proc/meminfo …",
)
def _shared_kernel(inside: Inside, scene: Scene) -> Outcome:
    readable = [path for path, content in inside.shared.items() if content]
    if scene.own_kernel or not readable:
        return held(f"what is there is {scene.oci_runtime}'s own")
    return limited(
        f"readable: {_some(readable)}",
        f"under {scene.oci_runtime} containers share the host's kernel, so a bug in it is a way out",
        f"{SANDBOXED}, or run the engine on a machine of its own, with its kernel up to date",
    )


@INSIDE.claim("inside.user-namespace", "User ids inside mean nothing outside", tried="read /proc/self/uid_map")
def _user_namespace(inside: Inside, scene: Scene) -> Outcome:
    if inside.uid_map[:2] != ["0", "0"] and len(inside.uid_map) >= 3:
        return held(f"id 0 inside is {inside.uid_map[1]} outside")
    if scene.own_kernel:
        return held(f"the ids are those of {scene.oci_runtime}'s kernel")
    return limited(
        f"id {scene.uid} inside is {scene.uid} outside",
        "the engine maps no user ids; the session's own id has no rights and no account outside",
        f'set "userns-remap": "default" in /etc/docker/daemon.json, use a rootless engine, or {SANDBOXED}',
    )


@INSIDE.claim("inside.confinement", "AppArmor or SELinux confines the container", tried="read /proc/self/attr/current")
def _confinement(inside: Inside, scene: Scene) -> Outcome:
    if inside.label and "unconfined" not in inside.label and inside.label != "kernel":
        return held(inside.label)
    if scene.own_kernel:
        return held(f"not visible inside {scene.oci_runtime}, whose own process is confined by it")
    return limited(
        inside.label or "no label",
        "the engine's machine has neither, or the engine does not use it; all other barriers stand",
        "enable AppArmor (Debian, Ubuntu) or SELinux (Fedora, RHEL) there and restart the engine",
    )


@INSIDE.claim("inside.network", "There is no network", tried="listed interfaces and routes; connected, sent, looked up")
def _network(inside: Inside, scene: Scene) -> Outcome:
    worked = [what for what, outcome in inside.network.items() if outcome == "worked"]
    if inside.interfaces != ["lo"] or inside.routes or worked or len(inside.network) < 3:
        return broken(f"interfaces {inside.interfaces}, {inside.routes} routes, worked: {_some(worked)}", RECREATE)
    return held("only the loopback interface, no route, nothing got out")


@INSIDE.claim("inside.abstract-sockets", "No socket of the host can be seen", tried="read /proc/net/unix")
def _abstract_sockets(inside: Inside, scene: Scene) -> Outcome:
    if inside.abstract_sockets:
        return broken(_some(inside.abstract_sockets), RECREATE, "they belong to the host's network namespace")
    return held("no abstract sockets")


@INSIDE.claim("inside.devices", "There are only harmless devices", tried="listed /dev")
def _devices(inside: Inside, scene: Scene) -> Outcome:
    foreign = sorted(
        path for path in inside.devices if path not in DEVICES and not path.removeprefix("/dev/pts/").isdigit()
    )
    if foreign and scene.own_kernel:
        return limited(
            _some(foreign), f"{scene.oci_runtime} has these itself; none leads to the host's", "none is needed"
        )
    return broken(_some(foreign), RECREATE) if foreign else held(_some(sorted(inside.devices)))


@INSIDE.claim("inside.descriptors", "No descriptor of the engine leaked in", tried="read the links in /proc/self/fd")
def _descriptors(inside: Inside, scene: Scene) -> Outcome:
    leaked = [
        link for link in inside.descriptors if not link.startswith((*HARMLESS_DESCRIPTORS, *OWN_FOLDERS, "host:["))
    ]
    if leaked or not inside.descriptors:
        return broken(_some(leaked) or "no list", f"update the engine's runc, or {SANDBOXED}", "CVE-2024-21626 is such")
    return held(f"{len(inside.descriptors)}, all sockets, pipes and the session's own")


@INSIDE.claim("inside.environment", "Nothing of the host's environment is inside", tried="listed the variables")
def _environment(inside: Inside, scene: Scene) -> Outcome:
    foreign = [name for name in inside.environment if name not in ENVIRONMENT and not name.startswith("RLM_")]
    if foreign:
        return broken(_some(foreign), "remove them from the engine's proxy settings in ~/.docker/config.json")
    return held(f"{len(inside.environment)} variables, all the image's own")


@INSIDE.claim("inside.processes", "No process of another container or of the host can be seen", tried="listed /proc")
def _processes(inside: Inside, scene: Scene) -> Outcome:
    seen = f"{inside.processes} processes, host name {inside.hostname!r}"
    if not 1 <= inside.processes <= 4 or inside.hostname != "sandbox":
        return broken(seen, RECREATE)
    return held(seen)


def _some(items: list[str], at_most: int = 8) -> str:
    """Return the first few of `items` as a line."""
    shown = ", ".join(item[:120] for item in items[:at_most])
    return f"{shown} and {len(items) - at_most} more" if len(items) > at_most else shown
