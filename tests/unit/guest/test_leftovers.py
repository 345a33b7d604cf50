"""What is emptied before the next kernel, and what is not touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rlm_kernel.guest import leftovers, places
from rlm_kernel.guest.leftovers import BATCH, KERNEL_ROOM, clear, empty


def test_everything_goes_but_what_is_kept(tmp_path: Path) -> None:
    """Files, links, closed folders and thousands of names go; what links point at stays."""
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    (folder / "closed" / "inner").mkdir(parents=True)
    (folder / "closed" / "inner" / "file").write_text("x")
    (folder / "closed" / "inner").chmod(0)
    (folder / "closed").chmod(0)
    (folder / "link").symlink_to(outside)
    (folder / "broken").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    for number in range(2 * BATCH + 1):
        (folder / f"{number}").touch()
    (folder / "context").write_text("kept")
    assert empty(str(folder), keep=("context",)) >= 2 * BATCH
    assert [path.name for path in folder.iterdir()] == ["context"]
    assert (outside / "precious").read_text() == "mine"


def test_no_depth_is_too_deep(tmp_path: Path) -> None:
    """Folders in folders, deeper than a path can be long, go too."""
    folder = tmp_path / "folder"
    folder.mkdir()
    here = os.open(folder, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("deep", dir_fd=here)
        inner = os.open("deep", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    assert empty(str(folder)) > 0
    assert list(folder.iterdir()) == []


def test_outside_of_a_container_nothing_else_is_touched() -> None:
    """Only the image names the folders that are emptied."""
    assert (places.SHM, places.TMP) == (None, None)


@pytest.mark.parametrize(("left", "emptied"), [(KERNEL_ROOM + 6, False), (KERNEL_ROOM + 4, True), (None, False)])
def test_files_stay_where_the_next_kernel_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int | None, emptied: bool
) -> None:
    """/tmp is emptied only if kernel and context would not fit beside its files."""
    private, tmp = tmp_path / "private", tmp_path / "tmp"
    private.mkdir()
    tmp.mkdir()
    (tmp / "file").write_text("x")
    monkeypatch.setattr(places, "PRIVATE", str(private))
    monkeypatch.setattr(places, "TMP", str(tmp))
    monkeypatch.setattr(leftovers, "memory_left", lambda: left)
    assert clear(context_size=5, keep=()) is emptied
    assert (tmp / "file").exists() is not emptied
