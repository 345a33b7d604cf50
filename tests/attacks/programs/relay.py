# ruff: noqa: PTH101, PTH102, PTH104, PTH108, PTH115, PTH208, PTH211, T201
"""Runs in a cell: tries everything that a process of the same user may try on the relay, and prints what worked."""

import ctypes
import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206
PIDFD_OPEN, PIDFD_GETFD, PROCESS_VM_READV, KCMP = 434, 438, 310, 312
LIBC = ctypes.CDLL(None, use_errno=True)


def attempt(what: Callable[[], Any]) -> bool:
    """Tell whether `what` worked."""
    try:
        return what() is not False
    except OSError:
        return False


def call(number: int, *arguments: int) -> bool:
    """Tell whether a system call succeeded."""
    return int(LIBC.syscall(number, *arguments)) >= 0


def steal() -> bool:
    """Tell whether a descriptor of the relay can be taken over."""
    pidfd = int(LIBC.syscall(PIDFD_OPEN, 1, 0))
    return any(call(PIDFD_GETFD, pidfd, number, 0) for number in range(30))


def connect() -> bool:
    """Tell whether the host's socket takes one more connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect("/run/rlm/stream")
    return True


def peek() -> bool:
    """Tell whether the relay's memory can be copied."""
    buffer = ctypes.create_string_buffer(64)
    local = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 64)
    remote = (ctypes.c_size_t * 2)(0x400000, 64)
    return call(PROCESS_VM_READV, 1, ctypes.addressof(local), 1, ctypes.addressof(remote), 1, 0)


def shared(name: str) -> bool:
    """Tell whether something can be made, renamed, removed or written in the folder shared with the host."""
    tricks: tuple[Callable[[], Any], ...] = (
        lambda: os.symlink("/etc/passwd", f"/run/rlm/{name}"),
        lambda: os.link("/run/rlm/context", f"/run/rlm/{name}"),
        lambda: os.link("/run/rlm/context", f"/tmp/{name}"),
        lambda: os.rename("/run/rlm/context", f"/run/rlm/{name}"),
        lambda: os.unlink("/run/rlm/context"),
        lambda: os.chmod("/run/rlm/context", 0o666),
        lambda: os.truncate("/run/rlm/context", 0),
        lambda: os.utime("/run/rlm/context"),
        lambda: os.mkfifo(f"/run/rlm/{name}"),
        lambda: os.mkdir("/run/rlm/stream"),
    )
    return any(attempt(trick) for trick in tricks)


def files_of_the_relay() -> list[str]:
    """Return what of the relay's /proc entries can be read and could hold a secret."""
    names = ("environ", "mem", "maps", "auxv", "stack", "syscall", "fd/3", "cwd", "root", "exe", "map_files")
    return [name for name in names if attempt(lambda name=name: _read(Path("/proc/1") / name))]  # type: ignore[misc]


def _read(path: Path) -> Any:
    return path.read_bytes() if path.is_file() else os.listdir(path) if path.is_dir() else os.readlink(path)


print(
    json.dumps(
        {
            "files": files_of_the_relay(),
            "ptrace": [LIBC.ptrace(request, 1, 0, 0) == 0 for request in (PTRACE_ATTACH, PTRACE_SEIZE)],
            "memory": peek(),
            "descriptors": steal(),
            "connect": attempt(connect),
            "shared": shared("trick"),
            "mounted": sorted(os.listdir("/run/rlm")) if Path("/run/rlm").is_dir() else [],
        }
    )
)
for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGSEGV, 35):
    os.kill(1, number)
