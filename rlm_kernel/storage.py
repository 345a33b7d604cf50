"""The state folder: its folders are private, and what goes wrong on its disk is an error of ours."""

from __future__ import annotations

import contextlib
import errno
import stat
from collections.abc import Iterator
from pathlib import Path

from rlm_kernel.errors import StorageError, StorageFull

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_WAY_OUT = "choose another folder with --state-dir or XDG_STATE_HOME"


def storage_error(error: OSError, folder: Path) -> StorageError:
    """Return our error for one that the disk under `folder` gave."""
    place = error.filename or folder
    if error.errno in _FULL:
        return StorageFull(f"no room left at {place}: {error.strerror}; free some there, or {_WAY_OUT}")
    return StorageError(
        f"can't use the state folder at {place}: {error.strerror or error}; make it usable, or {_WAY_OUT}"
    )


@contextlib.contextmanager
def storing(folder: Path) -> Iterator[None]:
    """Raise `StorageFull` or `StorageError` for every `OSError` of the block."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, folder) from None


def private_folder(folder: Path) -> None:
    """See to it that `folder` exists and that only its owner can enter it; missing ones above are made so (0700).

    Raise `StorageFull` or `StorageError`.
    """
    with storing(folder):
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        for place in reversed(missing):
            place.mkdir(mode=0o700, exist_ok=True)
        if stat.S_IMODE(folder.stat().st_mode) & 0o077:
            folder.chmod(0o700)
