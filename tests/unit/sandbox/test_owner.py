"""Whether the process behind a container is dead."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from rlm_kernel.sandbox.owner import is_dead, owner

BOOT, PID, START, NAMESPACE = owner().split(":")


def label(*, boot: str = BOOT, pid: str = PID, start: str = START, namespace: str = NAMESPACE) -> str:
    """Return an owner that differs from this process."""
    return f"{boot}:{pid}:{start}:{namespace}"


def test_this_process_lives() -> None:
    """The owner is this process, which is not dead."""
    assert int(PID) == os.getpid()
    assert not is_dead(owner())


def test_a_process_that_ended_is_dead() -> None:
    """Neither is one whose id another process has by now taken for it."""
    with subprocess.Popen(["true"]) as process:
        pass
    assert is_dead(label(pid=str(process.pid)))
    assert is_dead(label(start=str(int(START) + 1)))


def test_a_process_that_nobody_waited_for_is_dead() -> None:
    """A zombie holds nothing any more."""
    process = subprocess.Popen(["true"])
    stat = Path(f"/proc/{process.pid}/stat")
    while stat.read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    assert is_dead(label(pid=str(process.pid), start=stat.read_text().rpartition(")")[2].split()[19]))
    process.wait()


def test_another_users_process_lives() -> None:
    """Process 1 is there, whoever asks."""
    start = Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19]
    assert not is_dead(label(pid="1", start=start))


@pytest.mark.parametrize(
    "other",
    [
        label(boot="another", pid="999999999"),
        label(namespace="1", pid="999999999"),
        f"{BOOT}:999999999:1",
        "host:1:0:0",
        "",
        ":::",
        label(pid="-1"),
        label(pid="x"),
        label(pid="²"),
    ],
    ids=range(9),
)
def test_who_cannot_be_seen_is_not_called_dead(other: str) -> None:
    """Another boot, another PID namespace, labels of other versions and nonsense tell nothing."""
    assert not is_dead(other)


def test_a_number_that_is_no_process_is_dead() -> None:
    """However large it is."""
    assert is_dead(label(pid=str(10**30)))
