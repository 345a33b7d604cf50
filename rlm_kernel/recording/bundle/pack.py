"""Packing a run's folder into a bundle; the same folder gives the same bytes."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec
import zstandard

from rlm_kernel.errors import RecordingAltered, RecordingDamaged, RecordingError
from rlm_kernel.events import ContextStored, Record, RunStarted
from rlm_kernel.recording.bundle.manifest import MANIFEST, MOST_CONTEXTS, BundledContext, Manifest
from rlm_kernel.recording.chain import Chain
from rlm_kernel.recording.folder import EVENTS_FILE, is_run_id
from rlm_kernel.recording.liveness import is_written
from rlm_kernel.recording.reader import decode_line, open_recording, reading
from rlm_kernel.recording.verify import CONTEXTS, is_digest, lines
from rlm_kernel.version import __version__

_PIECE = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """How to pack: where contexts are that do not lie in the run's own folder, whether to include them, how hard."""

    store: Path
    contexts: bool = True
    level: int = 3


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def write_bundle(path: Path, to: BinaryIO, packing: Packing) -> Manifest:
    """Write the bundle of the run whose `events.jsonl` is at `path`, and return what is in it.

    It reads in pieces, whatever the size. What it includes are the contexts of the run's own session, where they are
    still there; those of sessions below are in the calls that made them. Raise `RecordingError` for a run that goes on
    or whose recording does not read whole, `RecordingAltered` for a context that is not what its name says. Then, and
    after an `OSError` of `to`, what was written is no bundle.
    """
    if is_written(path):
        raise RecordingError(f"{path} is still being written; pack the run when it has ended")
    manifest, places = _manifest(path, packing)
    compressor = zstandard.ZstdCompressor(level=packing.level, write_checksum=True)
    with (
        compressor.stream_writer(to, closefd=False) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.GNU_FORMAT, bufsize=_PIECE) as tar,
    ):
        tar.copybufsize = _PIECE  # type: ignore[attr-defined] # typeshed does not know it
        text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
        _add(tar, MANIFEST, len(text), io.BytesIO(text))
        for name, size in manifest.members():
            _add_file(tar, name, size, places.get(name, path))
    return manifest


def _manifest(path: Path, packing: Packing) -> tuple[Manifest, dict[str, Path]]:
    """Return what a bundle is to hold, and where each context lies, by its name in the bundle."""
    chain, size, run = Chain(path), 0, ""
    sizes: dict[str, int] = {}
    for line in lines(path, chain):
        size += len(line)
        if not line.endswith(b"\n"):
            break  # torn, and kept as it is
        lean = chain.take(line[:-1])
        if lean.node or lean.event.type not in ("RunStarted", "ContextStored"):
            continue
        match decode_line(line, path, chain.records):
            case Record(event=RunStarted(run=started)) if chain.records == 1:
                run = started
            case Record(event=ContextStored() as stored):
                sizes |= {stored.digest: stored.size} | ({stored.index_digest: 0} if stored.index_digest else {})
    if not is_run_id(run) or len(sizes) > MOST_CONTEXTS or not all(map(is_digest, sizes)):
        raise RecordingDamaged(f"{path} can't be packed: it holds no run, or contexts whose names are none")
    places = _found(path, packing, sizes) if packing.contexts else {}
    contexts = [
        BundledContext(
            digest=digest, size=places[digest].stat().st_size if digest in places else size, included=digest in places
        )
        for digest, size in sorted(sizes.items())
    ]
    manifest = Manifest(
        run=run, records=chain.records, head=chain.head, size=size, contexts=contexts, package_version=__version__
    )
    return manifest, {f"{CONTEXTS}/{digest}": place for digest, place in places.items()}


def _found(path: Path, packing: Packing, digests: dict[str, int]) -> dict[str, Path]:
    candidates = ((digest, (path.parent / CONTEXTS / digest, packing.store / digest)) for digest in digests)
    found = ((digest, next((place for place in places if place.is_file()), None)) for digest, places in candidates)
    return {digest: place for digest, place in found if place is not None}


def _add_file(tar: tarfile.TarFile, name: str, size: int, path: Path) -> None:
    with os.fdopen(open_recording(path), "rb") as file:
        hashing = _Hashing(file, path)
        _add(tar, name, size, hashing)
    if name != EVENTS_FILE and not name.endswith(hashing.digest):
        raise RecordingAltered(f"the context {path} is not what its name says: it was changed")


def _add(tar: tarfile.TarFile, name: str, size: int, file: _Readable) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    tar.addfile(member, file)  # type: ignore[arg-type] # it reads, and does nothing else


class _Hashing:
    """A file whose digest is known once it has been read."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        self._digest = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        """Read up to `size` bytes. Raise `RecordingDamaged` at the end: more was there when the reading began."""
        with reading(self._path):
            data = self._file.read(size)
        if size and not data:
            raise RecordingDamaged(f"{self._path} became shorter while it was read")
        self._digest.update(data)
        return data

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()
