"""The content store as a place: what it remembers, links, refuses and leaves behind."""

from __future__ import annotations

import io
import os
import resource
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from rlm_kernel.errors import StorageError, StorageFull
from rlm_kernel.sandbox.contexts import ContextStore
from rlm_kernel.sandbox.stored import link_into
from tests.unit.sandbox.conftest import contents, trusting, written


@pytest.fixture
def no_room() -> Iterator[None]:
    """Let files of this process grow to 100 kB only: a write beyond fails as on a full disk or quota."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("no_room")
def test_a_full_disk_is_said_and_leaves_nothing(store: ContextStore, tmp_path: Path) -> None:
    """The partial file is gone and the error tells what to do."""
    with pytest.raises(StorageFull, match="free some there, or choose another folder with --state-dir"):
        store.put_value("x" * 200_000)
    assert contents(tmp_path) == []


def test_a_context_in_the_store_is_not_read_again(tmp_path: Path) -> None:
    """40 MB put a second time take under 5 ms, with another process's store object too."""
    path = written(tmp_path / "big.txt", b"0123456789 abcdef\n" * (40_000_000 // 18))
    first = trusting(tmp_path).put_path(path)
    again = trusting(tmp_path)
    started = time.perf_counter()
    second = again.put_path(path)
    assert time.perf_counter() - started < 0.005
    assert second == first


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    """A change that keeps the size and sets the old modification time back is still seen."""
    store = trusting(tmp_path)
    path = written(tmp_path / "a.txt", "one")
    before = path.stat()
    first = store.put_path(path)
    path.write_text("two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.put_path(path).digest == sha256(b"two").hexdigest() != first.digest


def test_a_file_changed_just_now_is_not_trusted(store: ContextStore, tmp_path: Path) -> None:
    """Two writes within a clock tick look alike, so a young file's times are not remembered."""
    store.put_path(written(tmp_path / "young.txt", "one"))
    assert list((tmp_path / "store" / "known").iterdir()) == []


def test_a_folder_is_remembered_too(tmp_path: Path) -> None:
    """A folder's fingerprint covers every file's name and state, and the way it is stored."""
    store = trusting(tmp_path)
    (tmp_path / "folder").mkdir()
    path = written(tmp_path / "folder" / "a.txt", "one")
    first = store.put_path(tmp_path / "folder")
    assert len(list((tmp_path / "store" / "known").iterdir())) == 1
    assert store.put_path(tmp_path / "folder") == first
    path.rename(tmp_path / "folder" / "b.txt")
    assert store.put_path(tmp_path / "folder").names == ("b.txt",)


def test_what_is_gone_or_damaged_is_stored_anew(tmp_path: Path) -> None:
    """A fingerprint whose content was deleted or cut, or whose note is garbage, is not believed."""
    store = trusting(tmp_path)
    path = written(tmp_path / "a.txt", "some text")
    stored = store.put_path(path)
    stored.path.unlink()
    assert store.put_path(path).path.read_text() == "some text"
    stored.path.chmod(0o600)
    os.truncate(stored.path, 0)
    assert store.put_path(path).path.read_text() == "some text"
    for note in (tmp_path / "store" / "known").iterdir():
        note.write_text('{"digest": 1}')
    assert store.put_path(path) == stored


def test_linking_makes_a_second_name_for_the_same_bytes(store: ContextStore, tmp_path: Path) -> None:
    """A session's folder holds hard links to the blob and the index."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("x")
    (tmp_path / "session").mkdir()
    stored = store.put_path(tmp_path / "folder")
    link_into(stored, tmp_path / "session")
    assert stored.index_path is not None
    assert (tmp_path / "session" / "context").samefile(stored.path)
    assert (tmp_path / "session" / "context.json").samefile(stored.index_path)


@pytest.mark.skipif(
    not os.access("/dev/shm", os.W_OK) or Path("/dev/shm").stat().st_dev == Path("/tmp").stat().st_dev,
    reason="needs a second file system",
)
def test_where_no_link_can_be_the_content_is_copied(store: ContextStore, tmp_path: Path) -> None:
    """On another file system the session gets a read-only copy, and nothing else."""
    stored = store.put_value("far away")
    folder = Path("/dev/shm") / f"rlm-kernel-test-{os.getpid()}"
    folder.mkdir()
    try:
        link_into(stored, folder)
        assert [entry.name for entry in folder.iterdir()] == ["context"]
        assert (folder / "context").read_text() == "far away"
        assert stat.S_IMODE((folder / "context").stat().st_mode) == 0o444
    finally:
        (folder / "context").unlink(missing_ok=True)
        folder.rmdir()


def test_many_at_once_store_one_blob(store: ContextStore, tmp_path: Path) -> None:
    """Equal content put at the same time ends as one whole file, without a trace of the others."""
    text = "same text" * 100_000
    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(lambda _: store.put_value(text).digest, range(16)))
    assert contents(tmp_path) == sorted(digests) == [sha256(text.encode()).hexdigest()]


def test_an_interrupted_put_leaves_nothing(store: ContextStore, tmp_path: Path) -> None:
    """Ctrl-C while a pipe is read removes the part that was written."""

    class Interrupted(io.RawIOBase):
        def read(self, size: int = -1, /) -> bytes:
            if contents(tmp_path) and next((tmp_path / "store").glob(".part-*")).stat().st_size:
                raise KeyboardInterrupt
            return b"some"

    with pytest.raises(KeyboardInterrupt):
        store.put_stream(Interrupted())  # type: ignore[arg-type]
    assert contents(tmp_path) == []


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """Give a store on a file system that was made read-only after it was made."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "none", str(disk)], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted: {mounted.stderr}")
    try:
        ContextStore(disk / "store").put_value("there")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_cannot_be_written_is_said(read_only: Path, tmp_path: Path) -> None:
    """Storing and linking name the place and the option; what is there already can still be looked up."""
    store = ContextStore(read_only / "store")
    with pytest.raises(StorageError, match=r"disk/store.*Read-only file system.*--state-dir"):
        store.put_value("new")
    (tmp_path / "session").mkdir()
    stored = ContextStore(tmp_path / "store").put_value("there")
    with pytest.raises(StorageError, match="--state-dir"):
        link_into(stored, read_only)


def test_content_that_was_deleted_cannot_be_linked(store: ContextStore, tmp_path: Path) -> None:
    """A store that was emptied under a run is an error of storage."""
    stored = store.put_value("soon gone")
    stored.path.unlink()
    with pytest.raises(StorageError, match="No such file"):
        link_into(stored, tmp_path)


def test_a_note_that_cannot_be_made_is_done_without(tmp_path: Path) -> None:
    """What can't be remembered is stored all the same."""
    store = trusting(tmp_path)
    (tmp_path / "store" / "known").rmdir()
    assert store.put_path(written(tmp_path / "a.txt", "text")).path.read_text() == "text"
