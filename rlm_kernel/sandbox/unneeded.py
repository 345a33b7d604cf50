"""Removes from the content store what no run needs, beside runs that store and take contexts.

Whoever takes a file of the store touches it, and whoever removes one looks first whether it was touched of late, each
under the store's lock: what is taken either stays or is seen to be gone.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from rlm_kernel.storage import locked_folder, storing

GRACE_SECONDS = 3600.0
"""How long what was stored or taken stays in any case: it may be for a run whose recording does not tell of it yet."""
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Unneeded:
    """A file of the store that no run needs; `size` is in bytes."""

    digest: str
    size: int


def take(*paths: Path) -> bool:
    """Keep files of the store from being removed, from now on for an hour; false if one of them is gone."""
    if not paths:
        return True
    try:
        with locked_folder(paths[0].parent):
            for path in paths:
                with suppress(PermissionError):  # a store that nobody may write into is one that nobody cleans
                    os.utime(path)
        return all(path.exists() for path in paths)
    except OSError:
        return False


def remove_unneeded(root: Path, needed: Collection[str], *, dry_run: bool = False) -> Iterator[Unneeded]:
    """Remove the contexts in the store at `root` whose digests are not `needed`, and yield each.

    What a session has linked, and what was stored or taken within the last hour, stays. Nothing is removed where the
    file system has no locks, and nothing that is no file of the store's own making. Raise `StorageError`.
    """
    with storing(root):
        if root.is_symlink() or not root.is_dir():
            return
        names = [entry.name for entry in os.scandir(root) if _DIGEST.fullmatch(entry.name)]
    for name in sorted(names):
        if name not in needed and (removed := _removed(root, name, dry_run=dry_run)) is not None:
            yield removed
    if not dry_run:
        _forget(root)


def _removed(root: Path, name: str, *, dry_run: bool) -> Unneeded | None:
    path = root / name
    with storing(path), locked_folder(root, alone=True) as locked:
        try:
            status = path.lstat()
        except FileNotFoundError:
            return None
        fresh = status.st_mtime > time.time() - GRACE_SECONDS
        if not locked or fresh or status.st_nlink > 1 or not stat.S_ISREG(status.st_mode):
            return None
        if not dry_run:
            path.unlink()
    return Unneeded(name, status.st_size)


class _Note(msgspec.Struct):
    digest: str
    index_digest: str | None = None


def _forget(root: Path) -> None:
    """Remove the notes on paths whose content is gone; it is read again next time."""
    known = root / "known"
    if known.is_symlink() or not known.is_dir():
        return
    for note in known.iterdir():
        if not _DIGEST.fullmatch(note.name):
            continue
        with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
            told = msgspec.json.decode(note.read_bytes(), type=_Note)
            named = [digest for digest in (told.digest, told.index_digest) if digest is not None]
            if not all(_DIGEST.fullmatch(digest) and (root / digest).exists() for digest in named):
                note.unlink()
