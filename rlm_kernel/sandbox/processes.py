"""Processes on this machine that belong to a container: what the engine runs it with, and what runs in it."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

RUNTIMES = ("containerd-shim", "conmon", "runc", "crun", "runsc")
"""How the names of the programs begin that an engine runs containers with, as the system cuts them."""

ENDS_WITHIN = 5.0
"""Seconds that processes of a container have to end by themselves once the engine does not know it any more."""


class ContainerProcess(NamedTuple):
    """A process and its program's name; `stays` where it could not be ended."""

    pid: int
    name: str
    stays: bool = False


def processes_of(container: str) -> list[ContainerProcess]:
    """Return the processes of the container with this id; none where there is no /proc, or another kernel has them."""
    return list(_find(container))


def end_processes(container: str) -> list[ContainerProcess]:
    """Wait for a removed container's processes to end, kill those that do not, and return these. It blocks."""
    with ExitStack() as stack:
        watched: dict[int, ContainerProcess] = {}
        for process in _find(container):
            with suppress(OSError):
                pidfd = os.pidfd_open(process.pid)
                stack.callback(os.close, pidfd)
                if _belongs(process.pid, container):  # and not another one by now, with the same number
                    watched[pidfd] = process
        _wait(watched, ENDS_WITHIN)
        late = dict(watched)
        for pidfd in watched:
            with suppress(OSError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        _wait(watched, ENDS_WITHIN)
        return [process._replace(stays=pidfd in watched) for pidfd, process in late.items()]


def _wait(watched: dict[int, ContainerProcess], seconds: float) -> None:
    """Take out of `watched` what ends within so many seconds."""
    poller = select.poll()
    for pidfd in watched:
        poller.register(pidfd, select.POLLIN)
    deadline = time.monotonic() + seconds
    while watched and (left := deadline - time.monotonic()) > 0:
        for pidfd, _ in poller.poll(left * 1000):
            poller.unregister(pidfd)
            del watched[pidfd]


def _find(container: str) -> Iterator[ContainerProcess]:
    for entry in Path("/proc").glob("[0-9]*"):
        if (name := _belongs(int(entry.name), container)) is not None:
            yield ContainerProcess(int(entry.name), name)


def _belongs(pid: int, container: str) -> str | None:
    """Return the program's name of a process that belongs to the container; None for others."""
    folder = Path("/proc") / str(pid)
    try:
        name = (folder / "comm").read_text().strip()
        if container in (folder / "cgroup").read_text():
            return name
        ran = name.startswith(RUNTIMES) and container.encode() in (folder / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    return name if ran else None
