"""A session's folder on the host: locked as long as its session lives, so that a sweeper can tell."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlm_kernel.storage import claim, private_folder, storing

GUEST = "guest"
NOTE = "container"
_ID = re.compile(r"[0-9a-f]{64}")


@contextmanager
def session_folder(parent: Path) -> Iterator[Path]:
    """Make the folder that a guest sees, inside one that only this user can enter; remove both on exit.

    Raise `StorageFull` or `StorageError`.
    """
    private_folder(parent)
    with storing(parent):
        private, lock = _locked_folder(parent)
    folder = private / GUEST
    try:
        with storing(private):
            folder.mkdir()
            folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(private, ignore_errors=True)
        os.close(lock)


def _locked_folder(parent: Path) -> tuple[Path, int]:
    while True:
        private = parent / secrets.token_hex(8)
        private.mkdir(mode=0o700)
        try:
            lock = os.open(private, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # a sweeper was faster than the lock
        if claim(lock, private):
            return private, lock
        os.close(lock)


def note_container(folder: Path, container: str) -> None:
    """Note beside a session's `folder`, where no guest sees it, which container is the session's.

    Raise `StorageFull` or `StorageError`.
    """
    with storing(folder):
        (folder.parent / NOTE).write_text(container)


def noted_container(private: Path) -> str | None:
    """Return the id that was noted in a session's private folder, if it is there and is one."""
    try:
        noted = (private / NOTE).read_text()
    except (OSError, UnicodeDecodeError):
        return None
    return noted if _ID.fullmatch(noted) else None
