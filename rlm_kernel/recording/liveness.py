"""Whether a recording is being written: its writer holds a lock on it, which the kernel lets go of with the process."""

from __future__ import annotations

import fcntl
import os
import stat
import weakref
from pathlib import Path
from typing import Protocol


class Forked(Protocol):
    """What has to let go of a file in a child process that is forked and goes on as this program."""

    def let_go(self) -> None:
        """Close the file in the child, which the parent's lock would else outlive it in."""


HELD: weakref.WeakSet[Forked] = weakref.WeakSet()


def _let_go_in_child() -> None:
    for held in list(HELD):
        held.let_go()


os.register_at_fork(after_in_child=_let_go_in_child)


def is_written(path: Path) -> bool:
    """Tell whether a live process writes the recording at `path`, an `events.jsonl`; never block, disturb no writer.

    What is not there, no file of its own (a link, a FIFO) or can't be read is not written. Where the file system knows
    no locks nobody can tell, and every file counts as written.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return False
        # Shared, so that two who ask don't see each other; writers have theirs before the file has its name.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
