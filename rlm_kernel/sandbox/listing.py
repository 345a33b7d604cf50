"""What there is to read at a context's path, found before anything is read."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, NoReturn

from rlm_kernel.errors import ContextEncoding, ContextUnreadable

NAMES_SAID = 5


class Entry(NamedTuple):
    """A file to read: its name in the context, where it is, and what tells one state of it from the next."""

    name: str
    path: Path
    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, name: str, path: Path, seen: os.stat_result) -> Entry:
        """Return the entry for a file with the state `seen`."""
        return cls(name, path, seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


def fingerprint(kind: str, entries: list[Entry]) -> str:
    """Return a digest that changes when one of the files does, or the way they are stored."""
    digest = hashlib.sha256(kind.encode())
    for name, _, *state in entries:
        digest.update(f"\n{name}\0{state}".encode())
    return digest.hexdigest()


def settled(entries: list[Entry], seconds: float) -> bool:
    """Tell whether every file was left alone for `seconds`, so that its times will tell the next change from now on."""
    newest = max(max(entry.mtime_ns, entry.ctime_ns) for entry in entries)
    return newest + seconds * 1e9 < time.time_ns()


class Listing:
    """A folder's files, sorted by name as relative POSIX path, and notes on what is left out.

    `.git` is left out, and so are links that lead nowhere or out of the folder, links to folders and what is no file.
    `check` is called for each folder and may raise. Raise `ContextUnreadable` for a sub-folder or file that can't be
    looked at.
    """

    def __init__(self, folder: Path, check: Callable[[], None] | None = None) -> None:
        self.entries: list[Entry] = []
        self._folder = folder
        self._real = folder.resolve()
        self._links: list[str] = []
        self._broken: list[str] = []
        self._special: list[str] = []
        for top, folders, names in os.walk(folder, onerror=_refuse):
            if check is not None:
                check()
            inside = Path(top)
            self._links += (self._name(inside / name) for name in folders if (inside / name).is_symlink())
            folders[:] = [name for name in folders if name != ".git"]
            for name in names:
                self._add(inside / name)
        self.entries.sort()
        for one, next_one in itertools.pairwise(self.entries):
            if one.name == next_one.name:
                raise ContextEncoding(f"the folder {folder} has two files of the name {one.name} as text; rename one")

    @property
    def notes(self) -> list[str]:
        """Say what is left out."""
        notes = []
        if self._links:
            notes.append(f"links out of the folder, or to folders, were not followed: {some(sorted(self._links))}")
        if self._broken:
            notes.append(f"links that lead nowhere, so left out: {some(sorted(self._broken))}")
        if self._special:
            notes.append(f"neither files nor folders, so left out: {some(sorted(self._special))}")
        return notes

    def _name(self, path: Path) -> str:
        return readable(path.relative_to(self._folder))

    def _add(self, path: Path) -> None:
        name = self._name(path)
        if path.is_symlink():
            try:
                inside = path.resolve(strict=True).is_relative_to(self._real)
            except (OSError, RuntimeError):  # a circle of links is a RuntimeError before Python 3.13
                self._broken.append(name)
                return
            if not inside:
                self._links.append(name)
                return
        try:
            seen = path.stat()
        except OSError as error:
            raise unreadable(path, error) from None
        if stat.S_ISREG(seen.st_mode):
            self.entries.append(Entry.of(name, path, seen))
        else:
            self._special.append(name)


def readable(path: Path) -> str:
    r"""Return a path as text that can be encoded: bytes in it that are not UTF-8 become `\xff` and the like."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def some(names: list[str]) -> str:
    """Return the first names and how many more there are."""
    more = len(names) - NAMES_SAID
    return ", ".join(names[:NAMES_SAID]) + (f" and {more} more" if more > 0 else "")


def near(path: Path) -> str:
    """Return `; did you mean …?` with names like the one that is missing, or the first folder that is."""
    parent = path.absolute().parent
    if not parent.is_dir():
        missing = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.parent.is_dir())
        return f"; the folder {readable(missing)} does not exist"
    try:
        close = difflib.get_close_matches(path.name, [entry.name for entry in parent.iterdir()], n=3)
    except OSError:
        return ""
    return f"; did you mean {' or '.join(readable(path.with_name(name)) for name in close)}?" if close else ""


def unreadable(path: Path, error: OSError) -> ContextUnreadable:
    """Return the error for a context that is there."""
    return ContextUnreadable(f"can't read {readable(path)}: {error.strerror or error}; check its permissions")


def _refuse(error: OSError) -> NoReturn:
    raise unreadable(Path(error.filename), error) from None
