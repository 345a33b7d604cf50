"""What the container is allowed, as seen from inside; the host compares it with what it asked for."""

import ctypes
import os
import platform
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from .places import SHARED

CGROUP = Path("/sys/fs/cgroup")
PR_GET_NO_NEW_PRIVS = 39
_CAPABILITIES = {
    "CapInh": "cap_inh",
    "CapPrm": "cap_prm",
    "CapEff": "cap_eff",
    "CapBnd": "cap_bnd",
    "CapAmb": "cap_amb",
}


def read_facts() -> dict[str, Any]:
    """Return the facts; what can't be read is None."""
    status = _attempt(_status) or {}
    mounts = _attempt(_mounts) or {}
    root = mounts.get("/")
    return {
        "pid": os.getpid(),
        "uid": os.getuid(),
        "gid": os.getgid(),
        "groups": os.getgroups(),
        **{name: status.get(field) for field, name in _CAPABILITIES.items()},
        "no_new_privs": _attempt(_no_new_privs),
        "seccomp": int(status["Seccomp"]) if "Seccomp" in status else None,
        "rootfs_read_only": "ro" in root["options"] if root else None,
        "shared_read_only": "ro" in shared["options"] if (shared := mounts.get(SHARED)) else None,
        "tmpfs": _attempt(lambda: _tmpfs(mounts)),
        "pids_max": _attempt(lambda: _limit("pids.max", "pids/pids.max")),
        "memory_max": _attempt(lambda: _limit("memory.max", "memory/memory.limit_in_bytes")),
        "memory_swap_max": _attempt(_swap),
        "swap_total": _attempt(_swap_total),
        "cpu_max": _attempt(_cores),
        "nofile": _attempt(lambda: list(resource.getrlimit(resource.RLIMIT_NOFILE))),
        "core": _attempt(lambda: max(resource.getrlimit(resource.RLIMIT_CORE))),
        "interfaces": _attempt(_interfaces),
        "python": platform.python_version(),
    }


def oom_kills() -> int | None:
    """Return how often the system killed a process of this container for want of memory."""
    found: int | None = _attempt(_oom_kills)
    return found


def memory_left() -> int | None:
    """Return how much memory this container may still take; what only caches files on a disk counts as free."""
    found: int | None = _attempt(_memory_left)
    return found


def _attempt(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (OSError, ValueError, KeyError, IndexError):
        return None


def _status() -> dict[str, str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _no_new_privs() -> bool:
    """Ask the kernel itself: gVisor's has no line for it in `status`."""
    return bool(ctypes.CDLL(None).prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)


def _mounts() -> dict[str, Any]:
    rows = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return {row[1]: {"type": row[2], "options": row[3].split(",")} for row in rows}


def _tmpfs(mounts: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for path, mount in mounts.items():
        if mount["type"] == "tmpfs":
            found[path] = {
                "size_bytes": _attempt(partial(_room, path)),
                "options": mount["options"],
                "writable": Path(path).is_dir() and os.access(path, os.W_OK),
            }
    return found


def _room(path: str) -> int:
    space = os.statvfs(path)
    return space.f_blocks * space.f_frsize


def _limit(v2: str, v1: str) -> int | None:
    """Read one number of the cgroup; None stands for no limit."""
    text = _read(v2, v1).strip()
    # version 1 writes "no limit" as the largest multiple of the page size
    return None if text == "max" or int(text) >= 1 << 62 else int(text)


def _swap() -> int | None:
    """Return the limit of swap alone; version 1 knows only memory and swap together."""
    if (CGROUP / "memory.swap.max").exists():
        return _limit("memory.swap.max", "")
    both, memory = _limit("", "memory/memory.memsw.limit_in_bytes"), _limit("", "memory/memory.limit_in_bytes")
    return None if both is None or memory is None else both - memory


def _swap_total() -> int:
    """Return the machine's swap in bytes; where it has none, it doesn't matter that an engine can't limit it."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("SwapTotal:"))) * 1024


def _cores() -> float | None:
    if (CGROUP / "cpu.max").exists():
        quota, period = (CGROUP / "cpu.max").read_text().split()
    else:
        quota, period = (_read("", f"cpu/cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    return None if quota in ("max", "-1") else int(quota) / int(period)


def _interfaces() -> list[str]:
    lines = Path("/proc/net/dev").read_text().splitlines()[2:]
    return [line.partition(":")[0].strip() for line in lines]


def _oom_kills() -> int:
    text = _read("memory.events", "memory/memory.oom_control")
    rows = dict(line.split() for line in text.splitlines())
    return int(rows["oom_kill"])


def _memory_left() -> int | None:
    limit = _limit("memory.max", "memory/memory.limit_in_bytes")
    if limit is None:
        return None
    used = int(_read("memory.current", "memory/memory.usage_in_bytes"))
    rows = dict(line.split() for line in _read("memory.stat", "memory/memory.stat").splitlines())
    return limit - used + int(rows["inactive_file"]) + int(rows["active_file"])


def _read(v2: str, v1: str) -> str:
    path = CGROUP / v2
    return (path if v2 and path.is_file() else CGROUP / v1).read_text()
