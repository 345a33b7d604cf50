"""The content store: what goes in comes out, what can't go in leaves nothing."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_kernel.errors import (
    ContextBinary,
    ContextEncoding,
    ContextError,
    ContextNotFound,
    ContextUnreadable,
    StorageFull,
)
from rlm_kernel.sandbox.contexts import CHUNK, ContextStore
from rlm_kernel.types import JSON


@pytest.fixture
def store(tmp_path: Path) -> ContextStore:
    """Return an empty store."""
    return ContextStore(tmp_path / "store")


def contents(tmp_path: Path) -> list[str]:
    """Return what lies in the store."""
    return sorted(entry.name for entry in (tmp_path / "store").iterdir() if entry.name != "known")


def trusting(tmp_path: Path) -> ContextStore:
    """Return a store that trusts the times of files that were changed just now."""
    return ContextStore(tmp_path / "store", settle_seconds=0)


def written(path: Path, text: str | bytes) -> Path:
    """Write a file and let the clock of the file system tick, so that the next change gets another time."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    time.sleep(0.02)
    return path


def test_a_file_is_stored_as_a_str_under_its_digest(store: ContextStore, tmp_path: Path) -> None:
    """The blob is the file's bytes, read-only, named by their SHA-256, in a private folder."""
    raw = "née Ärger\n".encode() * 3
    (tmp_path / "a.txt").write_bytes(raw)
    stored = store.put_path(tmp_path / "a.txt")
    assert (stored.kind, stored.size, stored.chars, stored.decoded_size) == ("str", len(raw), 30, 30)
    assert stored.digest == sha256(raw).hexdigest() == stored.path.name
    assert stored.path.read_bytes() == raw
    assert stat.S_IMODE(stored.path.stat().st_mode) == 0o444
    assert stat.S_IMODE(stored.path.parent.stat().st_mode) == 0o700


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=5))
def test_any_text_survives_and_is_measured(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    """A value's blob decodes to the value; its memory is counted by the widest character."""
    value = "".join(parts)
    stored = ContextStore(tmp_path_factory.mktemp("any")).put_value(value)
    assert stored.path.read_bytes() == value.encode()
    widest = max(map(ord, value), default=0)
    width = 1 if widest < 0x100 else 2 if widest < 0x10000 else 4
    assert (stored.chars, stored.decoded_size) == (len(value), len(value) * width)


def test_one_emoji_makes_the_whole_text_wide(store: ContextStore) -> None:
    """The decoded size counts four bytes a character as soon as one needs them, pieces later too."""
    stored = store.put_value("x" * (2 * CHUNK) + "🙂")
    assert stored.decoded_size == 4 * (2 * CHUNK + 1)


def test_a_character_may_lie_across_two_pieces(store: ContextStore) -> None:
    """The check for UTF-8 goes on over the borders of the 1 MiB pieces."""
    raw = b"x" * (CHUNK - 1) + "é".encode() + b"y"
    assert store.put_stream(io.BytesIO(raw)).chars == CHUNK + 1


@pytest.mark.parametrize(
    ("raw", "offset"),
    [
        (b"ab\xff", 2),
        (b"x" * (CHUNK - 1) + b"\xe2\x28", CHUNK - 1),
        (b"abc\xe2\x82", 3),
        (b"y" * CHUNK + b"\xc3", CHUNK),
    ],
    ids=["inside", "across pieces", "cut at the end", "cut after a piece"],
)
def test_invalid_utf8_is_named_with_its_offset(store: ContextStore, tmp_path: Path, raw: bytes, offset: int) -> None:
    """The error names the file, the first bad byte's place and a way out; nothing stays in the store."""
    (tmp_path / "bad.txt").write_bytes(raw)
    with pytest.raises(ContextEncoding, match=rf"bad\.txt is not UTF-8 from byte {offset} on.*iconv"):
        store.put_path(tmp_path / "bad.txt")
    assert contents(tmp_path) == []


def test_a_folder_is_one_blob_and_an_index(store: ContextStore, tmp_path: Path) -> None:
    """Files lie in the blob sorted by their relative path; the index says where; `.git` is left out."""
    folder = tmp_path / "folder"
    for name, text in {"b.txt": "bé", "a/z.txt": "zz", "a.txt": "", ".git/config": "no", "a/.git/x": "no"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    stored = store.put_path(folder)
    assert (stored.kind, stored.files, stored.names) == ("files", 3, ("a.txt", "a/z.txt", "b.txt"))
    assert stored.path.read_text() == "zzbé"
    assert stored.index_path is not None
    assert json.loads(stored.index_path.read_text()) == {"files": [["a.txt", 0, 0], ["a/z.txt", 0, 2], ["b.txt", 2, 3]]}
    assert stored.index_path.name == stored.index_digest
    assert stored.notes == ()


def test_links_are_followed_inside_the_folder_only(store: ContextStore, tmp_path: Path) -> None:
    """A link to a file in the folder is that file; links out of it and to folders are named in a note."""
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "real.txt").write_text("real")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "inner.txt").symlink_to("real.txt")
    (folder / "outer.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe")
    stored = store.put_path(folder)
    assert stored.names == ("inner.txt", "real.txt")
    assert "secret" not in stored.path.read_text()
    assert stored.notes == (
        "links out of the folder, or to folders, were not followed: loop, outer.txt",
        "neither files nor folders, so left out: pipe",
    )


def test_binary_files_are_named_or_left_out(store: ContextStore, tmp_path: Path) -> None:
    """Without `skip_binary` the first binary files are named; with it the others are whole and a note says so."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(7):
        (folder / f"bin{number}").write_bytes(b"x" * (CHUNK + 5) + b"\0")
    (folder / "cafe.txt").write_bytes("café".encode("latin-1"))
    (folder / "fine.txt").write_text("fine")
    with pytest.raises(ContextBinary, match=r"bin0, bin1, bin2, bin3, bin4; leave them out with --skip-binary"):
        store.put_path(folder)
    assert contents(tmp_path) == []
    stored = store.put_path(folder, skip_binary=True)
    assert (stored.names, stored.path.read_text(), stored.chars) == (("fine.txt",), "fine", 4)
    assert stored.digest == sha256(b"fine").hexdigest()
    assert stored.notes == ("not text, so left out: bin0, bin1, bin2, bin3, bin4 and 3 more",)


def test_a_binary_file_is_refused(store: ContextStore, tmp_path: Path) -> None:
    """A single binary file has no way to be left out."""
    (tmp_path / "a.bin").write_bytes(b"\0")
    with pytest.raises(ContextBinary, match=r"a\.bin is binary; convert it"):
        store.put_path(tmp_path / "a.bin", skip_binary=True)


def test_a_missing_context_names_its_neighbours(store: ContextStore, tmp_path: Path) -> None:
    """The error offers names like the one given, or says which folder is missing."""
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ContextNotFound, match=r"note\.txt; did you mean .*notes\.txt\?"):
        store.put_path(tmp_path / "note.txt")
    with pytest.raises(ContextNotFound, match=r"the folder .*/nowhere does not exist"):
        store.put_path(tmp_path / "nowhere" / "deep" / "a.txt")
    with pytest.raises(ContextNotFound, match="there is no context"):
        store.put_path(tmp_path / "notes.txt" / "inside")


def test_a_folder_without_files_is_no_context(store: ContextStore, tmp_path: Path) -> None:
    """An empty folder is a mistake, not an empty dict."""
    (tmp_path / "empty" / ".git").mkdir(parents=True)
    with pytest.raises(ContextNotFound, match="holds no files"):
        store.put_path(tmp_path / "empty")


def test_a_context_that_cannot_be_read_says_why(store: ContextStore, tmp_path: Path) -> None:
    """A read that fails half-way is named and leaves nothing; this file exists, is regular and gives EIO."""
    with pytest.raises(ContextUnreadable, match=r"can't read /proc/self/mem: Input/output error"):
        store.put_path(Path("/proc/self/mem"))
    (tmp_path / "a").symlink_to("a")
    with pytest.raises(ContextUnreadable, match="Too many levels"):
        store.put_path(tmp_path / "a")
    assert contents(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permissions_are_respected(store: ContextStore, tmp_path: Path) -> None:
    """A file without read permission is named."""
    (tmp_path / "locked").write_text("x")
    (tmp_path / "locked").chmod(0)
    with pytest.raises(ContextUnreadable, match="Permission denied; check its permissions"):
        store.put_path(tmp_path / "locked")


def test_a_pipe_is_read_to_its_end(store: ContextStore, tmp_path: Path) -> None:
    """A named pipe, as a shell's process substitution makes, is a stream."""
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=("through a pipe",))
    writer.start()
    stored = store.put_path(tmp_path / "pipe")
    writer.join()
    assert (stored.preview, stored.source) == ("through a pipe", str(tmp_path / "pipe"))


def test_values_are_text_or_json(store: ContextStore) -> None:
    """A `str` is stored as it is, other values as JSON; what is neither is refused."""
    assert store.put_value("a\0b").path.read_bytes() == b"a\0b"
    value: JSON = {"ä": [1, 2.5, None, {"x": True}]}
    stored = store.put_value(value)
    assert (stored.kind, json.loads(stored.path.read_text())) == ("json", value)
    with pytest.raises(ContextError, match="neither text nor a JSON value"):
        store.put_value({"when": object()})  # type: ignore[dict-item]
    with pytest.raises(ContextEncoding, match="half a character"):
        store.put_value("a\ud800")


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
    with pytest.raises(StorageFull, match="free some or set --state-dir"):
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
    store.link_into(stored, tmp_path / "session")
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
        store.link_into(stored, folder)
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


_MEASURE = """
import pathlib, resource, sys
from rlm_kernel.sandbox.contexts import ContextStore
store = ContextStore(pathlib.Path(sys.argv[1]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store.put_path(pathlib.Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_the_process_never_holds_a_copy(tmp_path: Path) -> None:
    """Storing 60 MB of wide text raises the peak memory of a process by less than 16 MB."""
    (tmp_path / "big.txt").write_text("🙂é text\n" * (60_000_000 // 12))
    command = [sys.executable, "-c", _MEASURE, str(tmp_path / "store"), str(tmp_path / "big.txt")]
    kib = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert kib < 16 * 1024
