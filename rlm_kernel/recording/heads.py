"""The heads of recordings, kept outside of them: against its head any edit of a recording shows."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from rlm_kernel.recording.folder import is_run_id
from rlm_kernel.storage import private_folder, storing, unfinished_file

HEADS = "heads"
_MOST_BYTES = 200


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands for a whole recording: SHA-256 of its last line, and how many records there are."""

    digest: str
    records: int


def keep_head(state_dir: Path, run: str, head: Head) -> None:
    """Keep the head of a run that has ended, whole or not at all (0600). Raise `StorageFull` or `StorageError`."""
    folder = state_dir / HEADS
    private_folder(folder)
    with storing(folder):
        descriptor, part = unfinished_file(folder)
        try:
            os.write(descriptor, msgspec.json.encode(head))
            os.fdatasync(descriptor)
            part.rename(folder / run)
        except BaseException:  # after a signal too, no part of a file stays
            part.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)


def kept_head(state_dir: Path, run: str) -> Head | None:
    """Return the head that was kept of a run; None for a run that was killed or is not of this state folder."""
    if not is_run_id(run):
        return None
    try:
        with (state_dir / HEADS / run).open("rb") as file:
            return msgspec.json.decode(file.read(_MOST_BYTES), type=Head)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
