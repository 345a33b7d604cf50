"""What lies in the content store, and how it gets into a session's folder."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rlm_kernel.pictures import Picture
from rlm_kernel.storage import storing

_UNLINKABLE = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS}

Kind = Literal["str", "files", "json", "image"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredContext:
    """A context in the store.

    `size` is in bytes of UTF-8, `chars` in characters, `decoded_size` in bytes of memory that the text takes as Python
    `str`. `files` counts a folder's files, `names` are the first of them, the file at `index_path` tells where each
    lies in the blob at `path`. `notes` say in words what was left out. `name` is its variable's.
    `value_size` is what a table takes as Python objects, in bytes, 0 where that was not counted,
    `picture` is what an image is.
    """

    digest: str
    kind: Kind
    size: int
    chars: int
    decoded_size: int
    source: str
    path: Path
    index_path: Path | None = None
    index_digest: str | None = None
    files: int = 0
    names: tuple[str, ...] = ()
    preview: str = ""
    notes: tuple[str, ...] = ()
    name: str = "context"
    value_size: int = 0
    picture: Picture | None = None

    @property
    def parts(self) -> tuple[StoredContext, ...]:
        """Itself alone."""
        return (self,)

    @property
    def files_in_store(self) -> tuple[Path, ...]:
        """The blob, and the index if there is one."""
        return (self.path,) if self.index_path is None else (self.path, self.index_path)


@dataclass(frozen=True, slots=True)
class StoredContexts:
    """Several contexts in the store, each with a name of its own; `context` is a dict of them then."""

    parts: tuple[StoredContext, ...]


Stored = StoredContext | StoredContexts


def link_into(stored: Stored, folder: Path) -> None:
    """Make each part appear in `folder` as `context`, `context1`, …, and its index with `.json` added, mode 0444.

    The files are hard links, or copies where there can be none between the two places. Raise `StorageFull` or
    `StorageError`.
    """
    with storing(folder):
        for number, part in enumerate(stored.parts):
            name = f"context{number or ''}"
            if part.index_path is not None:
                _link(part.index_path, folder / f"{name}.json")
            _link(part.path, folder / name)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _UNLINKABLE:
            raise
        _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    """Copy under another name first, so that the guest never sees half of it."""
    part = target.with_name(f".{target.name}.part")
    try:
        shutil.copyfile(source, part)
        part.chmod(0o444)
        part.rename(target)
    finally:
        part.unlink(missing_ok=True)
