"""Runs in a cell and prints, as JSON, what its container lets it do."""

import json
import os
import resource
import socket
from collections.abc import Callable
from typing import IO, Any


def attempt(what: Callable[[], Any]) -> Any:
    """Return what comes of it, or the name of the error."""
    try:
        return what()
    except Exception as error:  # noqa: BLE001 - whatever it is, its name is the finding
        return type(error).__name__


def write(path: str) -> str:
    """Write one byte."""
    with open(path, "w") as file:  # noqa: PTH123
        file.write("x")
    return "written"


def fill(path: str) -> int:
    """Return how many bytes can be written, up to 2 GiB."""
    written = 0
    try:
        with open(path, "wb") as file:  # noqa: PTH123
            while written < 2**31:
                written += file.write(bytes(2**20))
    except OSError:
        pass
    os.unlink(path)  # noqa: PTH108
    return written


def files() -> int:
    """Return how many files can be opened, up to 5000."""
    opened = list[IO[str]]()
    try:
        while len(opened) < 5000:
            opened.append(open("/dev/null"))  # noqa: PTH123, SIM115
    except OSError:
        pass
    for file in opened:
        file.close()
    return len(opened)


def peek(path: str) -> str:
    """Read one byte."""
    with open(path, "rb") as file:  # noqa: PTH123
        file.read(1)
    return "read"


def device() -> str:
    """Read from the disk."""
    os.mknod("/tmp/node", 0o60666, os.makedev(8, 0))
    return peek("/tmp/node")


def execute(path: str) -> None:
    """Become a new program, which is not to be."""
    write(path)
    os.chmod(path, 0o755)  # noqa: PTH101
    os.execv(path, ["run"])


status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)  # noqa: PTH123, SIM115
CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
ROOTS = ("/x", "/etc/x", "/usr/x", "/opt/rlm/x", "/run/rlm/x", "/run/x", "/var/tmp/x", "/dev/x", "/sys/fs/cgroup/x")
print(  # noqa: T201
    json.dumps(
        {
            "ids": [os.getresuid(), os.getresgid(), os.getgroups()],
            "caps": [
                status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") if name in status
            ],
            "seccomp": status["Seccomp"].strip(),
            "write_root": [attempt(lambda path=path: write(path)) for path in ROOTS],  # type: ignore[misc]
            "setuid": attempt(lambda: os.setuid(0)),
            "chroot": attempt(lambda: os.chroot("/tmp")),
            "device": attempt(device),
            "user_namespace": os.system("unshare -U true 2>/dev/null") == 0,
            "mount": os.system("mount -t tmpfs none /tmp 2>/dev/null") == 0,
            "connect": attempt(lambda: socket.create_connection(("1.1.1.1", 53), 2)),
            "lookup": attempt(lambda: socket.gethostbyname("example.org")),
            "interfaces": [name for _, name in socket.if_nameindex()],
            "exec_tmp": attempt(lambda: execute("/tmp/run")),
            "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
            "core": resource.getrlimit(resource.RLIMIT_CORE),
            "tmp": fill("/tmp/fill"),
            "shm": fill("/dev/shm/fill"),
            "private": fill("/run/rlm-guest/fill"),
            "files": files(),
            "relay": [attempt(lambda name=name: peek(f"/proc/1/{name}")) for name in ("environ", "mem", "maps")],  # type: ignore[misc]
            "relay_fd": attempt(lambda: os.listdir("/proc/1/fd")),  # noqa: PTH208
            "engine": os.path.exists("/var/run/docker.sock"),  # noqa: PTH110
            "shared": sorted(os.listdir("/run/rlm")) if os.path.isdir("/run/rlm") else [],  # noqa: PTH112, PTH208
        }
    )
)
