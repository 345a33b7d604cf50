"""Where recordings are: one folder per run, private to the user."""

from __future__ import annotations

import errno
import os
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path

from rlm_kernel.errors import RecordingError
from rlm_kernel.storage import private_folder, storing

EVENTS_FILE = "events.jsonl"
_RUN = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}", re.ASCII)


def new_run_id(now: datetime | None = None) -> str:
    """Return an id that sorts by its start's second, in UTC: `20261121T073000Z-1f0c9a3e`."""
    return f"{now or datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def is_run_id(name: str) -> bool:
    """Tell whether `name` is made as a run's id is."""
    return _RUN.fullmatch(name) is not None


def run_folder(state_dir: Path, run: str) -> Path:
    """Return the folder of the run with the id `run`; anything but an id, such as a path, is a `RecordingError`."""
    if not is_run_id(run):
        raise RecordingError(f"{run!r} is not a run's id; an id looks like 20261121T073000Z-1f0c9a3e")
    return state_dir / "runs" / run


def events_file(path: Path) -> Path:
    """Return the file of a recording that is given by its folder or its file."""
    return path / EVENTS_FILE if path.is_dir() else path


def make_run_folder(state_dir: Path, run: str) -> Path:
    """Make the folder of a new run, 0700 as every folder on the way that does not exist yet; never reuse one.

    Raise `StorageFull` or `StorageError`, and `RecordingError` if there is such a run.
    """
    folder = run_folder(state_dir, run)
    private_folder(folder.parent)
    with storing(folder):
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            raise RecordingError(f"there is a recording at {folder}; a run's folder is never used twice") from None
    return folder


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable, where its file system can."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
