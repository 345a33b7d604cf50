"""A session's folder, and the race between those who make it and those who sweep."""

from __future__ import annotations

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from rlm_kernel.sandbox.folders import note_container, noted_container, session_folder
from rlm_kernel.storage import abandoned, unfinished_file

ID = "0123456789abcdef" * 4


def test_a_folder_is_private_and_goes(tmp_path: Path) -> None:
    """The guest's folder is in one that only the owner enters; nothing stays."""
    with session_folder(tmp_path) as folder:
        assert folder.stat().st_mode & 0o777 == 0o755
        assert folder.parent.stat().st_mode & 0o777 == 0o700
        assert folder.parent.parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_a_living_sessions_folder_is_not_abandoned(tmp_path: Path) -> None:
    """As long as the session lives; what is the same without a session is, for one at a time."""
    with session_folder(tmp_path) as folder:
        with abandoned(folder.parent) as left:
            assert not left
        shutil.copytree(folder.parent, tmp_path / "copy")
        with abandoned(tmp_path / "copy") as left:
            assert left
            with abandoned(tmp_path / "copy") as again:
                assert not again
    with abandoned(tmp_path / "missing") as left:
        assert not left


def test_the_note_is_beside_what_the_guest_sees(tmp_path: Path) -> None:
    """A container's id is read back; anything else is no note."""
    with session_folder(tmp_path) as folder:
        assert noted_container(folder.parent) is None
        note_container(folder, ID)
        assert list(folder.iterdir()) == []
        assert noted_container(folder.parent) == ID
        for nonsense in ("", "x" * 63, "../" * 22, "é" * 64, ID + "\n"):
            note_container(folder, nonsense)
            assert noted_container(folder.parent) is None
        (folder.parent / "container").write_bytes(b"\xff" * 64)
        assert noted_container(folder.parent) is None


def sweep(folder: Path, stop: threading.Event) -> None:
    """Remove what is abandoned until `stop` is set."""
    while not stop.is_set():
        for path in folder.iterdir():
            with abandoned(path) as left:
                if left and path.name != "whole":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


def make(folder: Path) -> None:
    """Make session folders and unfinished files, which must be there until they are given up."""
    for _ in range(200):
        with session_folder(folder) as mine:
            assert mine.is_dir()
        handle, path = unfinished_file(folder)
        try:
            path.rename(folder / "whole")
        finally:
            os.close(handle)


def test_nothing_is_swept_that_somebody_makes(tmp_path: Path) -> None:
    """However makers and sweepers meet, who has a folder or an unfinished file keeps it, and nobody fails."""
    stop = threading.Event()
    with ThreadPoolExecutor(4) as threads:
        sweepers = [threads.submit(sweep, tmp_path, stop) for _ in range(2)]
        makers = [threads.submit(make, tmp_path) for _ in range(2)]
        wait(makers)
        stop.set()
    for done in [*makers, *sweepers]:
        done.result()
