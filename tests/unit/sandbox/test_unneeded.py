"""Removing from the content store what no run needs, beside those who store and take."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rlm_kernel.sandbox.contexts import ContextStore
from rlm_kernel.sandbox.stored import StoredContext
from rlm_kernel.sandbox.unneeded import GRACE_SECONDS, remove_unneeded, take


@pytest.fixture
def store(tmp_path: Path) -> ContextStore:
    """A store that notes paths at once."""
    return ContextStore(tmp_path / "contexts", settle_seconds=0)


def old(*paths: Path) -> None:
    """Make files ones that were last taken more than the grace ago."""
    at = time.time() - GRACE_SECONDS - 10
    for path in paths:
        os.utime(path, (at, at))


def _value(store: ContextStore, text: str) -> StoredContext:
    stored = store.put_value(text)
    old(stored.path)
    return stored


def test_what_no_run_needs_goes(store: ContextStore, tmp_path: Path) -> None:
    """Unless it is needed, was stored or taken of late, or a session has it linked; a dry run removes nothing."""
    root = tmp_path / "contexts"
    needless, needed, linked, taken = (_value(store, text) for text in ("a", "bb", "ccc", "dddd"))
    fresh = store.put_value("eeeee")
    os.link(linked.path, tmp_path / "link")
    assert take(taken.path)
    (root / "notes.txt").touch()
    (root / ("f" * 64)).mkdir()
    (root / ("0" * 64)).symlink_to(tmp_path / "link")
    old(root / "notes.txt", root / ("f" * 64))
    for dry_run in (True, False):
        removed = list(remove_unneeded(root, {needed.digest}, dry_run=dry_run))
        assert [(each.digest, each.size) for each in removed] == [(needless.digest, 1)]
    assert not needless.path.exists()
    left = {path.name for path in root.iterdir()}
    stayed = {each.digest for each in (needed, linked, taken, fresh)}
    assert left == {*stayed, "known", "notes.txt", "f" * 64, "0" * 64}
    assert (tmp_path / "link").read_text() == "ccc"


def test_a_path_is_read_again_when_its_content_is_gone(store: ContextStore, tmp_path: Path) -> None:
    """The note on it goes too; a note on what is there stays, and taking by it keeps the content."""
    root = tmp_path / "contexts"
    folder = tmp_path / "folder"
    folder.mkdir()
    for path in (folder / "a.txt", tmp_path / "b.txt"):
        path.write_text(path.name)
    stored, other = store.put_path(folder), store.put_path(tmp_path / "b.txt")
    assert len(list((root / "known").iterdir())) == 2
    old(*stored.files_in_store, *other.files_in_store)
    assert len(list(remove_unneeded(root, {other.digest}))) == 2
    assert len(list((root / "known").iterdir())) == 1
    assert store.put_path(tmp_path / "b.txt").digest == other.digest
    assert list(remove_unneeded(root, ())) == []
    again = store.put_path(folder)
    assert all(path.exists() for path in again.files_in_store)


def test_what_is_gone_cannot_be_taken(store: ContextStore) -> None:
    """So a stored context is read again, and no half of a folder is used."""
    stored = _value(store, "a")
    stored.path.unlink()
    assert not take(stored.path)


@pytest.mark.parametrize("how", ["taken", "stored"])
def test_what_is_taken_while_others_remove_stays(store: ContextStore, tmp_path: Path, how: str) -> None:
    """It is there after the take or the store, or the take says that it is not."""
    root = tmp_path / "contexts"
    ended = set()
    with ThreadPoolExecutor() as threads:
        for number in range(150):
            stored = _value(store, f"text {number}")
            removing = threads.submit(lambda: list(remove_unneeded(root, ())))
            text = f"text {number}"
            using = threads.submit(take, stored.path) if how == "taken" else threads.submit(store.put_value, text)
            there = using.result() is not False
            removing.result()
            assert stored.path.exists() == there
            ended.add(there)
    assert True in ended


def test_without_a_store_nothing_happens(tmp_path: Path) -> None:
    """Nor through a link in its place."""
    store = ContextStore(tmp_path / "contexts")
    stored = _value(store, "a")
    (tmp_path / "link").symlink_to(tmp_path / "contexts")
    assert list(remove_unneeded(tmp_path / "none", ())) == []
    assert list(remove_unneeded(tmp_path / "link", ())) == []
    assert stored.path.exists()
