"""Removes recorded runs: which ones a rule lets go, and how one goes so that a crash leaves no half of it."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rlm_kernel.errors import RecordingError
from rlm_kernel.recording.find import run_folders
from rlm_kernel.recording.folder import EVENTS_FILE, is_run_id
from rlm_kernel.recording.liveness import is_written
from rlm_kernel.recording.log import LINE_LIMIT
from rlm_kernel.recording.reader import open_recording, reading
from rlm_kernel.storage import UNFINISHED, claim, storing

YOUNG_SECONDS = 600.0
"""No rule removes a run that was written to since: somebody may be about to look at it, or to resume it."""
_DIGEST = re.compile(rb"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Which runs stay: the last `last` in any case; of the others those of the last `days`, and of these as many, the
    latest first, as have no more than `size` bytes together. The latest run of all stays whatever its size.

    With `last` alone all others go, and without anything all stay.
    """

    days: float | None = None
    size: int | None = None
    last: int | None = None

    @property
    def keeps_all(self) -> bool:
        """Whether no run goes."""
        return self.days is None and self.size is None and self.last is None


@dataclass(frozen=True, slots=True)
class Going:
    """A run that a rule lets go: its size in bytes, and why."""

    folder: Path
    size: int
    reason: str


def outlived(state_dir: Path, rule: Rule, now: float | None = None) -> list[Going]:
    """Return the runs that `rule` lets go, the latest first; none that is being written or was just now."""
    if rule.keeps_all or (state_dir / "runs").is_symlink():
        return []
    now = time.time() if now is None else now
    going: list[Going] = []
    total = number = 0
    for folder in run_folders(state_dir):
        if (looked := _looked_at(folder)) is None:
            continue
        size, written_at = looked
        total += size
        reason = _reason(rule, number, now - written_at, total)
        number += 1
        if reason is not None and now - written_at >= YOUNG_SECONDS and not is_written(folder / EVENTS_FILE):
            going.append(Going(folder, size, reason))
    return going


def _reason(rule: Rule, number: int, age: float, total: int) -> str | None:
    if rule.last is not None and number < rule.last:
        return None
    if rule.days is not None and age > rule.days * 86400:
        return f"older than {rule.days:g} days"
    if rule.size is not None and total > rule.size and number:
        return f"beyond {rule.size} bytes"
    if rule.last is not None and rule.days is None and rule.size is None:
        return f"not among the last {rule.last}"
    return None


def _looked_at(folder: Path) -> tuple[int, float] | None:
    """Return the bytes of a run's folder and when it was last written to; None for what is no folder."""
    if folder.is_symlink() or not folder.is_dir():
        return None
    size, written_at = 0, 0.0
    with suppress(OSError):  # it goes, or is not ours to look into: then it is young
        written_at = folder.lstat().st_mtime
        for place, _, names in os.walk(folder):
            for name in names:
                status = Path(place, name).lstat()
                size += status.st_size
                written_at = max(written_at, status.st_mtime)
        return size, written_at
    return None


def removable(state_dir: Path, path: Path) -> Path:
    """Return the folder of the run whose recording is at `path`, which may be removed.

    Raise `RecordingError` if it lies elsewhere, is a link, is being written or may be so in a moment.
    """
    folder = path.parent
    runs = state_dir / "runs"
    if not is_run_id(folder.name) or folder.parent.absolute() != runs.absolute():
        raise RecordingError(f"{folder} is no run's folder in {runs}; remove it yourself if you don't need it")
    if runs.is_symlink() or folder.is_symlink():
        raise RecordingError(f"{folder} is, or lies behind, a link, and nothing is removed through one")
    if not folder.is_dir():
        raise RecordingError(f"there is no run {folder.name} in {state_dir}")
    looked = _looked_at(folder)
    begins = not os.path.lexists(path) and (looked is None or time.time() - looked[1] < YOUNG_SECONDS)
    if is_written(path) or begins:
        raise RecordingError(
            f"the run {folder.name} is being written: end it first (where the file system knows no locks nobody can "
            "tell; remove its folder yourself)"
        )
    return folder


def remove_run(folder: Path) -> None:
    """Remove a run's folder: under its name all of it is there or none, and a sweep removes what a crash leaves.

    Raise `StorageError`.
    """
    leaving = folder.with_name(f"{UNFINISHED}{folder.name}-{secrets.token_hex(4)}")
    with storing(folder):
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # another process was faster
        try:
            if claim(descriptor, folder):  # else another process removes it
                folder.rename(leaving)
                shutil.rmtree(leaving)
        finally:
            os.close(descriptor)


def needed_digests(folders: Iterable[Path]) -> set[str]:
    """Return the digests of all contexts that the runs in `folders` name, and of some more.

    Every line is read, none as JSON: what is damaged counts too. Raise `RecordingError`, which names it, for a
    recording that can't be read.
    """
    return {digest for folder in folders for digest in _digests(folder / EVENTS_FILE)}


def _digests(path: Path) -> Iterator[str]:
    with reading(path):
        try:
            descriptor = open_recording(path)
        except FileNotFoundError:
            return
        with os.fdopen(descriptor, "rb") as file:
            while line := file.readline(LINE_LIMIT + 1):
                if b"ContextStored" in line:
                    yield from (digest.decode() for digest in _DIGEST.findall(line))
                if len(line) > LINE_LIMIT:  # no reader comes behind it, and it may have no end
                    return
