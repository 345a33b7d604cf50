"""What a kernel and its cells leave behind in memory: files and shared memory, which outlive their processes."""

import contextlib
import ctypes
import itertools
import os
from collections.abc import Container, Iterator
from pathlib import Path

from . import places
from .facts import memory_left
from .wire import MIB

KERNEL_ROOM = 128 * MIB
"""Memory that the next kernel needs beside the context."""

BATCH = 1000
IPC_RMID = 0


def clear(context_size: int, keep: Container[str]) -> bool:
    """Make room for the next kernel, every other process being dead; return whether that cost the files in /tmp.

    They stay where the kernel and its context have room without that. The files to `keep` are the context's.
    """
    empty(places.PRIVATE, keep)
    if places.SHM is not None:
        empty(places.SHM)
        _remove_system_v()
    left = memory_left()
    if places.TMP is None or left is None or left >= KERNEL_ROOM + context_size:
        return False
    return empty(places.TMP) > 0


def empty(folder: str, keep: Container[str] = ()) -> int:
    """Remove all of a folder but the files to keep, however deep it is; return how much could be removed.

    Folders within folders are moved up first, so that no path gets long; few names are held at a time, as there may be
    hardly any memory left.
    """
    names = (f"{folder}/removed-{os.urandom(4).hex()}-{number}" for number in itertools.count())
    removed = 0
    while done := sum(_remove(entry, names) for entry in _some(folder, keep)):
        removed += done
    return removed


def _some(folder: str, keep: Container[str] = ()) -> list["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        return list(itertools.islice((entry for entry in entries if entry.name not in keep), BATCH))


def _remove(entry: "os.DirEntry[str]", names: Iterator[str]) -> bool:
    """Remove a file, or a folder after what is in it; say whether that worked."""
    try:
        if not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.path)  # noqa: PTH108
            return True
        os.chmod(entry.path, 0o700)  # noqa: PTH101
        while inner := _some(entry.path):
            for each in inner:
                if each.is_dir(follow_symlinks=False):
                    os.chmod(each.path, 0o700)  # noqa: PTH101
                    os.rename(each.path, next(names))  # noqa: PTH104
                else:
                    os.unlink(each.path)  # noqa: PTH108
        os.rmdir(entry.path)  # noqa: PTH106
    except OSError:
        return False
    return True


def _remove_system_v() -> None:
    """Remove System V shared memory, semaphores and queues, which belong to this container alone."""
    libc = ctypes.CDLL(None)
    for kind, remove, arguments in (
        ("shm", libc.shmctl, (IPC_RMID, None)),
        ("msg", libc.msgctl, (IPC_RMID, None)),
        ("sem", libc.semctl, (0, IPC_RMID)),
    ):
        with contextlib.suppress(OSError):
            rows = Path(f"/proc/sysvipc/{kind}").read_text().splitlines()[1:]
            for row in rows:
                remove(int(row.split()[1]), *arguments)
