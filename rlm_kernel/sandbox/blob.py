"""A file of the content store in the making: bytes are checked, counted, hashed and written in one pass."""

from __future__ import annotations

import codecs
import hashlib
import itertools
import mmap
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from rlm_kernel.storage import locked_folder, storing, unfinished_file

PREVIEW_CHARS = 500

_STR_OVERHEAD = sys.getsizeof("".join(("\u0100", "\u0101"))) - 3 * 2
"""Bytes of a str that is not ASCII beyond its characters and the closing zero."""


class BinaryFound(Exception):
    """A file holds a NUL byte."""


class NotUtf8(Exception):
    """A file is not UTF-8 from byte `offset` on."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset


@dataclass(slots=True)
class Counts:
    """What is known of the text that went by: bytes, characters, bytes as Python `str`, the first characters."""

    size: int = 0
    chars: int = 0
    decoded_size: int = 0
    preview: str = ""

    def passing(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Count one file, and yield each piece of it once it is counted. Raise `NotUtf8`."""
        chars, width = 0, 1
        for piece, text in decoded(pieces):
            self.size += len(piece)
            chars += len(text)
            width = max(width, (sys.getsizeof(text) - _STR_OVERHEAD) // (len(text) + 1))
            self.preview += text[: max(0, PREVIEW_CHARS - len(self.preview))]
            yield piece
        self.chars += chars
        self.decoded_size += chars * width


class Blob:
    """Text on its way into the folder `root`; it gets its digest for a name when it is whole, else leaves nothing.

    `check` is called with the new size after each piece and may raise. The disk's failures are `StorageFull` and
    `StorageError`.
    """

    def __init__(self, root: Path, check: Callable[[int], None] | None = None) -> None:
        self._root = root
        self._check = check or (lambda size: None)
        self._hash = hashlib.sha256()
        self.counts = Counts()
        with storing(root):
            handle, self._part = unfinished_file(root)
        self._file = os.fdopen(handle, "wb", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with storing(self._root):
            self._file.close()
            self._part.unlink(missing_ok=True)

    def add(self, pieces: Iterable[bytes]) -> None:
        """Append one file. Raise `NotUtf8`, or `BinaryFound` as `pieces` does, with the blob as it was before."""
        counts, digest = replace(self.counts), self._hash.copy()
        try:
            self._add(pieces)
        except (BinaryFound, NotUtf8):
            self.counts, self._hash = counts, digest
            with storing(self._root):
                self._file.seek(counts.size)
                self._file.truncate()
            raise

    def add_bytes(self, data: bytes) -> None:
        """Append what is no text."""
        self._write(data)
        self.counts.size += len(data)
        self.counts.decoded_size += len(data)
        self._check(self.counts.size)

    def _add(self, pieces: Iterable[bytes]) -> None:
        for piece in self.counts.passing(pieces):
            self._write(piece)
            self._check(self.counts.size)

    def _write(self, piece: bytes) -> None:
        self._hash.update(piece)
        rest = memoryview(piece)
        with storing(self._root):
            while rest:
                rest = rest[self._file.write(rest) :]

    @contextmanager
    def written(self) -> Iterator[bytes | mmap.mmap]:
        """Give what was written so far, to read."""
        with storing(self._root), self._part.open("rb") as file:
            if not self.counts.size:
                yield b""
                return
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
                yield text

    @property
    def digest(self) -> str:
        """SHA-256 of what was written so far, in hexadecimal."""
        return self._hash.hexdigest()

    def commit(self) -> str:
        """Make the blob durable, name it by its digest, and return that."""
        digest = self.digest
        with storing(self._root):
            os.fchmod(self._file.fileno(), 0o444)
            os.fsync(self._file.fileno())
            with locked_folder(self._root):
                self._part.rename(self._root / digest)
        return digest


def decoded(pieces: Iterable[bytes]) -> Iterator[tuple[bytes, str]]:
    """Yield each piece of one file with the text that it completes; an empty one comes last. Raise `NotUtf8`."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    done = 0
    for piece in itertools.chain(pieces, (b"",)):
        held = len(decoder.getstate()[0])
        try:
            text = decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            raise NotUtf8(done - held + error.start) from None
        done += len(piece)
        yield piece, text
