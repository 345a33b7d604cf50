"""Who made a container: told in a label, so that others can judge whether its maker still lives."""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path

_PROC = Path("/proc")
_STATE, _START = 0, 19
"""Where a process's state and start time are in what follows its name in `/proc/<pid>/stat`."""


@cache
def owner() -> str:
    """Return what tells this process from every other one, of earlier boots and of other hosts too.

    It is the boot's id, the process's id, its start time in the kernel's ticks, and its PID namespace; elsewhere than
    on Linux, the host's name stands for the boot.
    """
    try:
        return f"{_boot()}:{os.getpid()}:{_stat(os.getpid())[_START]}:{_namespace()}"
    except OSError:
        return f"{socket.gethostname()}:{os.getpid()}:0:0"


def is_dead(label: str) -> bool:
    """Tell whether the process behind an `owner` label is certainly no more; False where that can't be told.

    Another boot may be that of another host which uses the same engine, and the processes of another PID namespace
    can't be seen from here.
    """
    boot, _, rest = label.partition(":")
    pid, _, rest = rest.partition(":")
    start, _, namespace = rest.partition(":")
    try:
        if boot != _boot() or namespace != _namespace() or not pid.isdecimal():
            return False
    except OSError:
        return False
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        pass  # it is another user's
    try:
        stat = _stat(int(pid))
    except OSError:
        return False  # it ended just now, or is hidden from this user
    return stat[_START] != start or stat[_STATE] in ("Z", "X")


def _boot() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def _namespace() -> str:
    return str((_PROC / "self/ns/pid").stat().st_ino)


def _stat(pid: int) -> list[str]:
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
