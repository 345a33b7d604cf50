"""The state folder: its folders are private, and what goes wrong on its disk is an error of ours."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from rlm_kernel.errors import StorageError, StorageFull

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
UNFINISHED = ".part-"
"""How the names of files begin that are not whole yet."""
_WAY_OUT = "choose another folder with --state-dir or XDG_STATE_HOME"


def cache_folder() -> Path:
    """Return the folder for what can be had again, and for unfinished work that is no one run's."""
    return platformdirs.user_cache_path("rlm_kernel")


def user_path(text: str) -> Path:
    """Return the path that a user wrote; `~` is their home, and `~name` where nobody is called so a name as any."""
    with contextlib.suppress(RuntimeError):
        return Path(text).expanduser()
    return Path(text)


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


def claim(descriptor: int, path: Path) -> bool:
    """Lock the new file or folder at `path`, open as `descriptor`, until that is closed.

    False if a sweeper was faster, and `path` is gone or goes. Where the file system knows no locks, `path` is never
    swept, as no sweeper gets the lock either.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def abandoned(path: Path) -> Iterator[bool]:
    """Tell the block whether nobody has `path` claimed; if so, nobody else is told the same while the block runs."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = os.path.samestat(os.fstat(descriptor), path.lstat())
    except OSError:
        ours = False
    try:
        yield ours
    finally:
        os.close(descriptor)


def unfinished_file(folder: Path) -> tuple[int, Path]:
    """Make a file in `folder` that is swept if its descriptor is closed before the file is renamed. Raise `OSError`."""
    while True:
        descriptor, name = tempfile.mkstemp(prefix=UNFINISHED, dir=folder)
        if claim(descriptor, path := Path(name)):
            return descriptor, path
        os.close(descriptor)


@contextlib.contextmanager
def unfinished_folder(folder: Path) -> Iterator[Path]:
    """Make a folder in `folder` for the block's work; it is removed at its end, or swept. Raise `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        path = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder))
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # a sweeper was faster than the lock
        if claim(lock, path):
            break
        os.close(lock)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


@contextlib.contextmanager
def locked_folder(folder: Path, *, alone: bool = False) -> Iterator[bool]:
    """Hold a lock on `folder` for the block, `alone` or with others that are not, and tell whether there is one.

    It is waited for, so the block has to be short. False where the file system knows no locks. Raise `OSError`.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
