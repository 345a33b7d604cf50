"""From what a user writes to a run's recording."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rlm_kernel.errors import RecordingError
from rlm_kernel.recording.folder import EVENTS_FILE, events_file, is_run_id
from rlm_kernel.recording.reader import reading
from rlm_kernel.storage import storing, user_path

LAST = "last"


def run_folders(state_dir: Path) -> Iterator[Path]:
    """Yield the folders of all runs, the latest first; what is no run's is passed over. Raise `StorageError`."""
    runs = state_dir / "runs"
    with storing(runs):
        names = [entry.name for entry in runs.iterdir()] if runs.is_dir() else []
    for name in sorted(filter(is_run_id, names), reverse=True):
        yield runs / name


def find_run(state_dir: Path, named: str) -> Path:
    """Return the `events.jsonl` that `named` means.

    That is a run's id, what only one id begins or ends with, `last` for the latest, or the path of a run's folder or
    its file. Raise `RecordingError` naming the way out.
    """
    path = user_path(named)
    with reading(path):
        if "/" in named or (named and path.exists()):
            found = events_file(path)
            if not found.is_file():
                raise RecordingError(
                    f"there is no recording at {path}; list those that there are with `rlm-kernel runs`"
                )
            return found
    folders = run_folders(state_dir)
    if named == LAST:
        matches = [folder for folder in [next(folders, None)] if folder is not None]
    else:
        matches = [folder for folder in folders if named and folder.name.startswith(named)]
        matches = matches or [folder for folder in run_folders(state_dir) if named and folder.name.endswith(named)]
    if not matches:
        raise RecordingError(
            f"there is no run {named[:200]!r} in {state_dir}; list those that there are with `rlm-kernel runs`"
        )
    if len(matches) > 1:
        raise RecordingError(f"{named!r} is the beginning or the end of {len(matches)} runs' ids; write more of it")
    return matches[0] / EVENTS_FILE
