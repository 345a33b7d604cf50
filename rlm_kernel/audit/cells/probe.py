"""Runs in a cell: reads what code inside can know of its isolation and of the machine, and prints it as JSON."""

import json
import os
import socket
import stat
from collections.abc import Callable
from typing import Any

MASKED = (
    "/proc/kcore",
    "/proc/keys",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/latency_stats",
    "/proc/kmsg",
    "/proc/scsi",
    "/proc/acpi",
    "/proc/asound",
    "/sys/firmware",
    "/sys/kernel/debug",
    "/sys/kernel/tracing",
    "/sys/kernel/security",
)
SHARED = ("/proc/cmdline", "/proc/version", "/proc/modules", "/proc/meminfo", "/proc/loadavg", "/proc/partitions")


def text(path: str) -> str:
    """Return the beginning of a file, nothing if it can't be read."""
    try:
        with open(path, errors="backslashreplace") as file:
            return file.read(100_000)
    except OSError:
        return ""


def state(path: str) -> str:
    """Tell whether something is "absent", "denied", "empty" or "readable"."""
    try:
        if os.path.isdir(path):
            return "readable" if os.listdir(path) else "empty"
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return "readable" if os.read(descriptor, 1) else "empty"
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return "absent"
    except OSError:
        return "denied"


def mounts() -> list[dict[str, Any]]:
    found = []
    for line in text("/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        _, _, _, root, path, options, *_ = left.split()
        kind, source, *_ = right.split()
        found.append(
            {"path": path, "root": root, "kind": kind, "source": source, "read_only": "ro" in options.split(",")}
        )
    return found


def devices() -> list[str]:
    found = []
    for folder, _, names in os.walk("/dev"):
        for name in names:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                found.append(path)
    return found


def privileged_files() -> list[str]:
    found = []
    for folder, folders, names in os.walk("/"):
        folders[:] = [name for name in folders if not os.path.ismount(os.path.join(folder, name))]
        for name in names:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode) and mode & 0o111 and (mode & 0o6000 or has_capabilities(path)):
                found.append(path)
    return found


def has_capabilities(path: str) -> bool:
    try:
        return bool(os.getxattr(path, "security.capability"))
    except OSError:
        return False


def descriptors() -> list[str]:
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            continue  # the listing's own
    return found


def attempt(what: Callable[[], object]) -> str:
    """Return the name of the error that `what` ends with, or "worked"."""
    try:
        what()
    except OSError as error:
        return type(error).__name__
    return "worked"


def send() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"x", ("169.254.169.254", 80))


def status(process: str) -> dict[str, str]:
    """Return what the system says of a process."""
    rows = (line.split(":", 1) for line in text(f"/proc/{process}/status").splitlines() if ":" in line)
    return {name: value.strip() for name, value in rows}


own, first = status("self"), status("1")  # the guest adds a filter of its own to all but the first process
print(
    json.dumps(
        {
            "ids": [*os.getresuid(), *os.getresgid(), *os.getgroups()],
            "status": {
                **{name: own.get(name, "") for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")},
                **{name: first.get(name, "") for name in ("NoNewPrivs", "Seccomp")},
            },
            "uid_map": text("/proc/self/uid_map").split(),
            "label": text("/proc/self/attr/current").strip("\0\n "),
            "hostname": socket.gethostname(),
            "processes": sum(name.isdigit() for name in os.listdir("/proc")),
            "mounts": mounts(),
            "masked": {path: state(path) for path in MASKED},
            "shared": {path: text(path)[:2000] for path in SHARED},
            "devices": devices(),
            "privileged_files": privileged_files(),
            "descriptors": descriptors(),
            "environment": sorted(os.environ),
            "interfaces": [line.partition(":")[0].strip() for line in text("/proc/net/dev").splitlines()[2:]],
            "routes": max(0, len(text("/proc/net/route").splitlines()) - 1),
            "abstract_sockets": [line.split()[-1] for line in text("/proc/net/unix").splitlines() if "@" in line],
            "network": {
                "connect to 1.1.1.1": attempt(lambda: socket.create_connection(("1.1.1.1", 53), 2).close()),
                "send to the cloud's metadata address": attempt(send),
                "look up example.org": attempt(lambda: socket.gethostbyname("example.org")),
            },
        }
    )
)
