"""Storing a context ends early: at a size, and when it is cancelled."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from rlm_kernel.errors import ContextNotFound, ContextTooLarge
from rlm_kernel.sandbox.contexts import ContextStore
from rlm_kernel.sandbox.reading import CHUNK
from rlm_kernel.types import JSON
from tests.unit.sandbox.conftest import contents, trusting, written

LIMIT = 2 * CHUNK


class Endless(io.RawIOBase):
    """Gives text for ever and counts how much was taken."""

    taken = 0

    def read(self, size: int = -1, /) -> bytes:
        """Give one piece."""
        self.taken += size
        return b"x" * size


def test_a_stream_is_refused_at_the_limit(store: ContextStore, tmp_path: Path) -> None:
    """No more than a piece beyond the limit is read; the error names the option; nothing stays."""
    stream = Endless()
    with pytest.raises(ContextTooLarge, match=r"stdin has 3\.0 MiB or more.*memory of 2 MiB.*--memory"):
        store.put_stream(stream, max_bytes=LIMIT)  # type: ignore[arg-type]
    assert stream.taken == LIMIT + CHUNK
    assert contents(tmp_path) == []


def huge_file(place: Path) -> Path:
    """Make a file of 8 TiB, nearly all of it a hole."""
    with place.open("wb") as file:
        file.truncate(2**43)
    return place


def huge_folder(place: Path) -> Path:
    """Make a folder of two files that fit only one by one."""
    place.mkdir()
    for name in "ab":
        (place / name).write_bytes(b"x" * LIMIT)
    return place


@pytest.mark.parametrize("make", [huge_file, huge_folder])
def test_a_size_that_can_be_seen_is_refused_unread(
    store: ContextStore, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    """Neither a file nor a folder is read when its size alone is too much: the first byte, a NUL, goes unnoticed."""
    with pytest.raises(ContextTooLarge):
        store.put_path(make(tmp_path / "huge"), max_bytes=LIMIT)
    assert contents(tmp_path) == []


def test_files_that_are_left_out_do_not_count(store: ContextStore, tmp_path: Path) -> None:
    """With `skip_binary` only what is kept must fit, and is counted as it is read."""
    folder = huge_folder(tmp_path / "folder")
    huge_file(folder / "c")
    (folder / "b").unlink()
    assert store.put_path(folder, skip_binary=True, max_bytes=LIMIT).size == LIMIT
    (folder / "d").write_text("x")
    with pytest.raises(ContextTooLarge):
        store.put_path(folder, skip_binary=True, max_bytes=LIMIT)


def test_what_is_remembered_is_refused_too(tmp_path: Path) -> None:
    """A smaller limit than the last time holds for what is in the store already."""
    store = trusting(tmp_path)
    (tmp_path / "folder").mkdir()
    written(tmp_path / "folder" / "a.txt", "x" * 100)
    for path in (tmp_path / "folder", tmp_path / "folder" / "a.txt"):
        assert store.put_path(path, skip_binary=True).size == 100
        with pytest.raises(ContextTooLarge):
            store.put_path(path, skip_binary=True, max_bytes=99)


@pytest.mark.parametrize("value", ["é" * CHUNK * 2, ["x" * LIMIT]], ids=["str", "json"])
def test_a_value_must_fit_too(store: ContextStore, tmp_path: Path, value: JSON) -> None:
    """A value is counted in bytes of UTF-8."""
    with pytest.raises(ContextTooLarge):
        store.put_value(value, max_bytes=LIMIT)
    assert contents(tmp_path) == []


async def test_put_takes_paths_and_values(store: ContextStore, tmp_path: Path) -> None:
    """A `Path` is read, everything else is a value; errors and limits are those of the other ways."""
    assert (await store.put(written(tmp_path / "a.txt", "text"))).kind == "str"
    assert (await store.put("text")).digest == (await store.put(tmp_path / "a.txt")).digest
    assert (await store.put({"a": 1})).kind == "json"
    with pytest.raises(ContextNotFound):
        await store.put(tmp_path / "b.txt")
    with pytest.raises(ContextTooLarge):
        await store.put("text", max_bytes=3)


async def test_put_reads_a_pipe_that_is_slow(store: ContextStore, tmp_path: Path) -> None:
    """A pipe whose writer comes late and writes in two goes is read whole."""
    os.mkfifo(tmp_path / "pipe")
    putting = asyncio.ensure_future(store.put(tmp_path / "pipe"))
    writer = await asyncio.to_thread(os.open, tmp_path / "pipe", os.O_WRONLY)
    for text in (b"one ", b"two"):
        os.write(writer, text)
        await asyncio.sleep(0.05)
    os.close(writer)
    assert (await putting).preview == "one two"


@pytest.mark.parametrize("written_first", [b"", b"some" * 9], ids=["no writer", "silent writer"])
async def test_a_cancel_ends_the_wait_for_a_pipe(store: ContextStore, tmp_path: Path, written_first: bytes) -> None:
    """Before anything has come, and in the middle, a cancel is done at once and leaves no part, thread or open file."""
    os.mkfifo(tmp_path / "pipe")
    await asyncio.to_thread(int)  # the loop's own thread stays for the next work
    before = (threading.active_count(), len(list(Path("/proc/self/fd").iterdir())))
    writer = os.open(tmp_path / "pipe", os.O_RDWR) if written_first else None
    putting = asyncio.ensure_future(store.put(tmp_path / "pipe"))
    async with asyncio.timeout(5):
        if writer is not None:
            os.write(writer, written_first)
        while not (parts := list((tmp_path / "store").glob(".part-*"))) or (
            parts[0].stat().st_size < len(written_first)
        ):
            await asyncio.sleep(0.01)
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
    if writer is not None:
        os.close(writer)
    assert contents(tmp_path) == []
    assert (threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))) == before


async def test_a_cancel_ends_a_read_that_flows(store: ContextStore, tmp_path: Path) -> None:
    """Text that comes without end is left within a piece, and its writer sees its reader go."""
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(f"yes > '{tmp_path}/pipe'", shell=True) as yes:
        async with asyncio.timeout(10):
            putting = asyncio.ensure_future(store.put(tmp_path / "pipe"))
            while not (parts := list((tmp_path / "store").glob(".part-*"))) or parts[0].stat().st_size < 3 * CHUNK:
                await asyncio.sleep(0.01)
            putting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await putting
        assert yes.wait(5) != 0
    assert contents(tmp_path) == []


_WAITS = """
import asyncio, pathlib, sys
from rlm_kernel.sandbox.contexts import ContextStore
asyncio.run(ContextStore(pathlib.Path(sys.argv[1])).put(pathlib.Path(sys.argv[2])))
"""


def test_ctrl_c_ends_a_process_that_waits_for_a_pipe(tmp_path: Path) -> None:
    """The thread that waits does not keep the process."""
    os.mkfifo(tmp_path / "pipe")
    command = [sys.executable, "-c", _WAITS, str(tmp_path / "store"), str(tmp_path / "pipe")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    with (tmp_path / "pipe").open("w"):  # opens when the process reads
        process.send_signal(2)
        _, said = process.communicate(timeout=20)
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert contents(tmp_path) == []
