"""Unpacking a bundle, which may be a stranger's: nothing of it is believed, and all of it is bounded."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import zstandard

from rlm_kernel.errors import BundleInvalid, RecordingError, RlmKernelError
from rlm_kernel.events import Record, RunStarted
from rlm_kernel.recording.bundle.manifest import MANIFEST, MANIFEST_LIMIT, SUFFIX, WINDOW, Manifest, read_manifest
from rlm_kernel.recording.chain import Chain
from rlm_kernel.recording.find import find_run
from rlm_kernel.recording.folder import EVENTS_FILE, new_run_id, run_folder, sync_folder
from rlm_kernel.recording.reader import decode_line, open_recording, reading
from rlm_kernel.recording.verify import CONTEXTS, lines
from rlm_kernel.storage import private_folder, storing, unfinished_folder, user_path

MOST_BYTES = 4 * 2**30
_STEP = 1024
"""Bytes that are unpacked at once; no more than 32 MiB can come of them."""
_PIECE = 2**20
_BLOCK = tarfile.BLOCKSIZE


def unpack(bundle: Path, state_dir: Path, *, most_bytes: int = MOST_BYTES) -> tuple[Path, Manifest]:
    """Make the run's folder from a bundle, never over one that is there, and return it.

    All of it is checked before it has its name: the archive's form, every digest, the hash chain up to the head that
    the manifest names. Raise `BundleInvalid` for what is no bundle or has over `most_bytes` unpacked, the errors of a
    recording for what is in it, `RecordingError` for a run that is there, `StorageFull` or `StorageError`; then, and
    after a kill, nothing of it stays.
    """

    def accept(manifest: Manifest) -> None:
        if (place := run_folder(state_dir, manifest.run)).exists():
            raise RecordingError(f"there is a recording at {place}; remove it with `rlm-kernel runs delete` first")
        if manifest.run > new_run_id(datetime.now(UTC) + timedelta(days=1)):
            raise BundleInvalid(f"the run {manifest.run} would have begun in the future, and be the last one for ever")

    with _unpacked(bundle, state_dir, most_bytes, accept) as (folder, manifest):
        target = run_folder(state_dir, manifest.run)
        accept(manifest)
        with storing(target):
            folder.rename(target)
            sync_folder(target.parent)
    return target, manifest


@contextmanager
def opened_run(state_dir: Path, named: str, *, most_bytes: int = MOST_BYTES) -> Iterator[Path]:
    """Give the block the `events.jsonl` that `named` means, as `find_run` does; that of a bundle is unpacked for it.

    Raise what `find_run` and `unpack` raise.
    """
    bundle = user_path(named)
    with reading(bundle):
        is_bundle = named.endswith(SUFFIX) and bundle.is_file()
    if is_bundle:
        with _unpacked(bundle, state_dir, most_bytes, lambda _: None) as (folder, _):
            yield folder / EVENTS_FILE
    else:
        yield find_run(state_dir, named)


@contextmanager
def _unpacked(
    bundle: Path, state_dir: Path, most_bytes: int, accept: Callable[[Manifest], None]
) -> Iterator[tuple[Path, Manifest]]:
    """Unpack into an unfinished folder, whose only entry has the run's id as its name, for the block."""
    runs = state_dir / "runs"
    private_folder(runs)
    with ExitStack() as stack:
        with storing(runs):
            place = stack.enter_context(unfinished_folder(runs))
        try:
            with reading(bundle), os.fdopen(open_recording(bundle), "rb") as file:
                inflated = _Inflated(file)
                manifest = _first(inflated, most_bytes)
                accept(manifest)
                folder = place / manifest.run
                _write_members(inflated, manifest, folder)
            _check_events(folder / EVENTS_FILE, manifest)
        except BundleInvalid as error:
            raise BundleInvalid(f"{bundle}: {error}") from None
        yield folder, manifest


def _first(inflated: _Inflated, most_bytes: int) -> Manifest:
    size = inflated.member(MANIFEST)
    if size > MANIFEST_LIMIT:
        raise BundleInvalid(f"{MANIFEST} has {size} bytes")
    manifest = read_manifest(b"".join(inflated.content(size)))
    total = sum(size for _, size in manifest.members())
    if total > most_bytes:
        raise BundleInvalid(f"it would take {total} bytes unpacked, and {most_bytes} may be; see --max-size")
    return manifest


def _write_members(inflated: _Inflated, manifest: Manifest, folder: Path) -> None:
    with storing(folder):
        folder.mkdir(mode=0o700)
        (folder / CONTEXTS).mkdir(mode=0o700)
    for name, size in manifest.members():
        if inflated.member(name) != size:
            raise BundleInvalid(f"{name} has another size than {MANIFEST} says")
        digest = _write(folder / name, inflated.content(size))
        if name != EVENTS_FILE and not name.endswith(digest):
            raise BundleInvalid(f"{name} is not what its name says")
    inflated.end()
    with storing(folder):
        if not any(one.included for one in manifest.contexts):
            (folder / CONTEXTS).rmdir()
        sync_folder(folder)


def _write(path: Path, pieces: Iterator[bytes]) -> str:
    """Write a new file (0600), made durable, and return its digest. Raise `StorageFull` or `StorageError`."""
    digest = hashlib.sha256()
    with storing(path):
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
    with file:
        for piece in pieces:
            digest.update(piece)
            with storing(path):
                file.write(piece)
        with storing(path):
            file.flush()
            os.fdatasync(file.fileno())
    return digest.hexdigest()


def _check_events(path: Path, manifest: Manifest) -> None:
    """Raise `BundleInvalid` unless the recording is one of the run, and ends as the manifest says."""
    chain = Chain(path)
    try:
        for line in lines(path, chain):
            if not line.endswith(b"\n"):
                break
            chain.take(line[:-1])
            if chain.records == 1:
                record = decode_line(line, path, 1)
                started = record.event if isinstance(record, Record) and not record.node else None
                if not isinstance(started, RunStarted) or started.run != manifest.run:
                    raise BundleInvalid(f"its recording is not that of the run {manifest.run}")
    except RlmKernelError as error:
        error.args = (str(error).replace(str(path), EVENTS_FILE),)
        raise
    if (chain.head, chain.records) != (manifest.head, manifest.records):
        raise BundleInvalid(f"its recording does not end with the head that {MANIFEST} names")


class _Inflated:
    """What a bundle holds, member by member, with little of it in memory. Every way to read raises `BundleInvalid`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inflate = zstandard.ZstdDecompressor(max_window_size=WINDOW).decompressobj()
        self._ready = memoryview(b"")

    def member(self, name: str) -> int:
        """Read a member's header, which has to be that of the file `name`, and return the member's size."""
        block = b"".join(self._pieces(_BLOCK))
        try:
            header = tarfile.TarInfo.frombuf(block, "ascii", "strict")
        except (tarfile.TarError, ValueError):
            raise BundleInvalid(f"{name} is due, and what is there is no member of an archive") from None
        if header.name != name or header.type != tarfile.REGTYPE or header.size < 0:
            raise BundleInvalid(f"{name} is due as a file, and {header.name[:100]!r} is there")
        return header.size

    def content(self, size: int) -> Iterator[bytes]:
        """Yield a member's bytes in pieces."""
        yield from self._pieces(size)
        for padding in self._pieces(-size % _BLOCK):
            self._only_zeros(padding)

    def end(self) -> None:
        """Raise `BundleInvalid` if anything stands behind the last member."""
        left = 2 * tarfile.RECORDSIZE
        while (piece := self._read(_PIECE)) and left > 0:
            left -= len(piece)
            self._only_zeros(piece)
        if left <= 0 or left > 2 * tarfile.RECORDSIZE - 2 * _BLOCK or self._inflate.unused_data or self._file.read(1):
            raise BundleInvalid("it does not end where its archive does")

    def _only_zeros(self, piece: bytes) -> None:
        if piece.count(0) != len(piece):
            raise BundleInvalid("something stands between or behind its members")

    def _pieces(self, size: int) -> Iterator[bytes]:
        while size:
            piece = self._read(min(size, _PIECE))
            if not piece:
                raise BundleInvalid("its archive is cut off")
            size -= len(piece)
            yield piece

    def _read(self, size: int) -> bytes:
        """Return up to `size` bytes, none at the end."""
        while not self._ready and not self._inflate.eof:
            packed = self._file.read(_STEP)
            if not packed:
                raise BundleInvalid("it is cut off")
            try:
                self._ready = memoryview(self._inflate.decompress(packed))
            except zstandard.ZstdError as error:
                raise BundleInvalid(f"it can't be unpacked: {error}") from None
        piece, self._ready = bytes(self._ready[:size]), self._ready[size:]
        return piece
