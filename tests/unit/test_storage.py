"""The state folder: private, and with errors that say what to do."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_kernel.errors import StorageError, StorageFull
from rlm_kernel.recording import RecordingLog
from rlm_kernel.sandbox.contexts import ContextStore
from rlm_kernel.storage import private_folder, storing


@pytest.fixture
def no_mask() -> Iterator[None]:
    """Let new files and folders have every permission that is asked for."""
    mask = os.umask(0)
    yield
    os.umask(mask)


def mode(folder: Path) -> int:
    """Return a folder's permissions."""
    return stat.S_IMODE(folder.stat().st_mode)


@pytest.mark.usefixtures("no_mask")
def test_every_folder_that_is_made_is_private(tmp_path: Path) -> None:
    """The folder and those above it that were missing are 0700; one that was there above them stays as it is."""
    tmp_path.chmod(0o755)
    private_folder(tmp_path / "state" / "deep")
    assert [mode(place) for place in (tmp_path, tmp_path / "state", tmp_path / "state" / "deep")] == [
        0o755,
        0o700,
        0o700,
    ]


@pytest.mark.usefixtures("no_mask")
def test_a_folder_that_others_could_enter_is_closed_to_them(tmp_path: Path) -> None:
    """A folder left over with wider permissions is made private."""
    (tmp_path / "contexts").mkdir()
    private_folder(tmp_path / "contexts")
    assert mode(tmp_path / "contexts") == 0o700


@pytest.mark.usefixtures("no_mask")
@pytest.mark.parametrize("first", ["store", "log"])
def test_the_state_folder_is_private_whoever_makes_it(tmp_path: Path, first: str) -> None:
    """The content store and the recording make it alike."""
    state = tmp_path / "state"
    if first == "store":
        ContextStore(state / "contexts")
    else:
        RecordingLog(state, "20261121T073000Z-1f0c9a3e").close()
    assert mode(state) == 0o700


@pytest.mark.parametrize("place", ["/proc/x", "/dev/null/x"])
def test_a_folder_that_cannot_be_made_is_a_clear_error(place: str) -> None:
    """The error names the place and the option."""
    with pytest.raises(StorageError, match=rf"{place}.*--state-dir"):
        private_folder(Path(place) / "contexts")


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull), (errno.EROFS, StorageError), (errno.EIO, StorageError)],
)
def test_every_failure_of_the_disk_has_a_class(tmp_path: Path, number: int, kind: type[Exception]) -> None:
    """No room is one error, anything else another."""
    with pytest.raises(kind, match="--state-dir") as caught, storing(tmp_path):
        raise OSError(number, os.strerror(number))
    assert type(caught.value) is kind
