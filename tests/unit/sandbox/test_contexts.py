"""The content store: what goes in comes out, what can't go in leaves nothing."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
import threading
import time
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_kernel.errors import ContextBinary, ContextEncoding, ContextError, ContextNotFound, ContextUnreadable
from rlm_kernel.sandbox.contexts import ContextStore
from rlm_kernel.sandbox.reading import CHUNK
from rlm_kernel.types import JSON
from tests.support.images import PNG
from tests.unit.sandbox.conftest import contents, trusting, written


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


@settings(max_examples=60)
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


def test_an_image_comes_through_a_pipe(store: ContextStore) -> None:
    """Standard input may be an image too, in pieces of any length; one without an end is refused."""

    class Trickle(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(5 if self.tell() < 20 else size)

    stored = store.put_stream(Trickle(PNG))
    assert (stored.kind, stored.picture, stored.path.read_bytes()) == ("image", ("image/png", 1, 1), PNG)
    with Path("/dev/zero").open("rb") as endless, pytest.raises(ContextBinary, match="an image may have"):
        store.put_stream(io.BufferedReader(Joined(PNG, endless)))


class Joined(io.RawIOBase):
    """Bytes, and then what a file has."""

    def __init__(self, first: bytes, then: BinaryIO) -> None:
        self._first, self._then = first, then

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Give the next bytes."""
        piece = self._first or self._then.read(len(buffer))
        self._first = b""
        buffer[: len(piece)] = piece
        return len(piece)


def test_a_stream_that_does_not_block_is_read_to_its_end(store: ContextStore) -> None:
    """A standard input that some other program made non-blocking is waited for, not taken for ended."""
    end, start = os.pipe()
    os.set_blocking(end, False)

    def write_late() -> None:
        for text in (b"one ", b"two"):
            time.sleep(0.05)
            os.write(start, text)
        os.close(start)

    writer = threading.Thread(target=write_late)
    writer.start()
    with os.fdopen(end, "rb") as file:
        stored = store.put_stream(file)
    writer.join()
    assert stored.preview == "one two"


def test_values_are_text_or_json(store: ContextStore) -> None:
    """A `str` is stored as it is, other values as JSON; what is neither is refused."""
    assert store.put_value("a\0b").path.read_bytes() == b"a\0b"
    value: JSON = {"ä": [1, 2.5, None, {"x": True}]}
    stored = store.put_value(value)
    assert (stored.kind, json.loads(stored.path.read_text())) == ("json", value)
    other = store.put_value((MappingProxyType({"x": range(2)}),))
    assert other.path.read_text() == '[{"x": [0, 1]}]'
    for wrong in (object(), b"bytes"):
        with pytest.raises(ContextError, match="neither text nor a JSON value"):
            store.put_value({"when": wrong})  # type: ignore[dict-item]
    with pytest.raises(ContextEncoding, match="half a character"):
        store.put_value("a\ud800")


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


def test_a_path_that_is_not_utf8_is_a_path(tmp_path: Path) -> None:
    """Such a file is stored, remembered and found again; messages about it can be printed."""
    path = written(tmp_path / os.fsdecode(b"\xff.txt"), "text")
    for _ in range(2):
        assert trusting(tmp_path).put_path(path).source == f"{tmp_path}/\\xff.txt"
    path.write_bytes(b"\0")
    for missing in (path, tmp_path / os.fsdecode(b"\xff.tx")):
        with pytest.raises(ContextError, match=r"\\xff\.tx") as caught:
            trusting(tmp_path).put_path(missing)
        str(caught.value).encode()


def test_a_store_may_lie_at_a_path_that_is_not_utf8(tmp_path: Path) -> None:
    """What it holds is found again."""
    path = written(tmp_path / "a.txt", "text")
    for _ in range(2):
        store = ContextStore(tmp_path / os.fsdecode(b"\xff"), settle_seconds=0)
        assert store.put_path(path).path.read_text() == "text"
