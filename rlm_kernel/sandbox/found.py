"""A context that a recording names, found by its digest; what is said of it is made anew from its bytes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import mmap
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from rlm_kernel.errors import ContextError, ContextMissing
from rlm_kernel.events import ContextStored
from rlm_kernel.pictures import MAX_BYTES, Picture, look_at
from rlm_kernel.sandbox.blob import Blob, Counts, NotUtf8
from rlm_kernel.sandbox.formats import check_json
from rlm_kernel.sandbox.reading import CHUNK, Bounds
from rlm_kernel.sandbox.stored import StoredContext
from rlm_kernel.storage import storing

NAMES_KEPT = 20
LARGEST_INDEX = 256 * 2**20
LONGEST_SOURCE = 1_000
_DIGEST = re.compile("[0-9a-f]{64}", re.ASCII)


class _Nowhere(Exception):
    """No file has the bytes."""


class _Index(msgspec.Struct, forbid_unknown_fields=True):
    files: list[tuple[str, int, int]]


def find_context(root: Path, wanted: ContextStored, folders: Sequence[Path], bounds: Bounds) -> StoredContext:
    """Return the context `wanted` from the store at `root`; what only one of `folders` has is copied there first.

    Nothing of it is taken on trust: the bytes have the recorded digest, and the index of a folder's files fits them.
    Raise `ContextMissing` naming the ways out, `ContextTooLarge`, `StorageFull`, `StorageError`, and `ContextError` for
    bytes that are not what the recording says they are.
    """
    digests = [wanted.digest, *([] if wanted.index_digest is None else [wanted.index_digest])]
    if not all(map(_DIGEST.fullmatch, digests)) or (wanted.kind == "files") != (wanted.index_digest is not None):
        raise ContextError(f"the recording names its context {wanted.name[:100]!r} by what is no digest")
    bounds.check(wanted.size)
    index = None
    try:
        with storing(root):
            if wanted.index_digest is not None:
                raw = _brought(root, wanted.index_digest, None, folders)
                index = _index(raw.read_bytes(), wanted.size)
            return _described(_brought(root, wanted.digest, wanted.size, folders), wanted, index)
    except _Nowhere:
        raise _missing(wanted) from None
    except (NotUtf8, ValueError) as error:
        raise ContextError(
            f"the recorded context {wanted.name[:100]!r} is no {wanted.kind!r} by its bytes: {error}"
        ) from None


def _missing(wanted: ContextStored) -> ContextMissing:
    source = wanted.source[:LONGEST_SOURCE]
    name = "" if wanted.name == "context" else f"{wanted.name[:100]}="
    return ContextMissing(
        f"the recorded context {wanted.name[:100]!r} is neither in the content store nor beside the recording: "
        f"{source}, {wanted.size:,} bytes, SHA-256 {wanted.digest}. Give it again with --context {name}PATH, or take "
        "the run from where it was recorded, packed with its contexts"
    )


def _brought(root: Path, digest: str, size: int | None, folders: Iterable[Path]) -> Path:
    """Return the store's file of `digest`. Raise `_Nowhere` if nobody has those bytes."""
    for folder in (root, *folders):
        with _opened(folder / digest, size) as file:
            if file is None:
                continue
            pieces = iter(lambda file=file: file.read(CHUNK), b"")  # type: ignore[misc]
            if folder is root:
                if _hashed(pieces) == digest:
                    return root / digest
                continue
            with Blob(root) as blob:
                for piece in pieces:
                    blob.add_bytes(piece)
                if blob.digest == digest:
                    blob.commit()
                    return root / digest
    raise _Nowhere(digest)


@contextlib.contextmanager
def _opened(path: Path, size: int | None) -> Iterator[io.FileIO | None]:
    """Give a file of `size` (None: of any up to an index's), or None for what is none: a link, a pipe, another size."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        seen = os.fstat(descriptor)
        fits = seen.st_size <= LARGEST_INDEX if size is None else seen.st_size == size
        yield io.FileIO(descriptor, closefd=False) if stat.S_ISREG(seen.st_mode) and fits else None


def _hashed(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _index(raw: bytes, size: int) -> list[tuple[str, int, int]]:
    """Return where each file lies. Raise `ValueError` unless they follow on each other and are all of `size` bytes."""
    files = msgspec.json.decode(raw, type=_Index).files
    end = 0
    for _, start, length in files:
        if start != end or length < 0:
            raise ValueError("the index of its files does not fit it")
        end += length
    if end != size:
        raise ValueError("the index of its files does not fit it")
    return files


def _described(path: Path, wanted: ContextStored, index: list[tuple[str, int, int]] | None) -> StoredContext:
    counts, picture = Counts(), None
    with path.open("rb", buffering=0) as file:
        if wanted.kind == "image":
            picture = _picture(file, counts)
        elif index is None:
            _count(file, wanted.size, counts)
            if wanted.kind == "json":
                _check_json(file, wanted)
        else:
            for _, _, length in index:
                _count(file, length, counts)
    return StoredContext(
        digest=wanted.digest,
        kind=wanted.kind,
        size=wanted.size,
        chars=counts.chars,
        decoded_size=counts.decoded_size,
        source=wanted.source[:LONGEST_SOURCE],
        path=path,
        index_path=None if index is None else path.with_name(wanted.index_digest or ""),
        index_digest=wanted.index_digest,
        files=len(index or ()),
        names=tuple(name for name, _, _ in (index or ())[:NAMES_KEPT]),
        preview=counts.preview,
        name=wanted.name,
        picture=picture,
    )


def _count(file: io.FileIO, length: int, counts: Counts) -> None:
    """Count the next `length` bytes as one file."""
    for _ in counts.passing(_pieces(file, length)):
        pass


def _pieces(file: io.FileIO, length: int) -> Iterator[bytes]:
    while length and (piece := file.read(min(CHUNK, length))):
        yield piece
        length -= len(piece)


def _check_json(file: io.FileIO, wanted: ContextStored) -> None:
    if not wanted.size:
        raise ValueError("it is empty")
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        check_json(text, f"the recorded context {wanted.name[:100]!r}")


def _picture(file: io.FileIO, counts: Counts) -> Picture:
    data = file.read(MAX_BYTES + 1)
    counts.size = counts.decoded_size = len(data)
    return look_at(data)
