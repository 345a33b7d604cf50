"""Reading a context's bytes: in pieces, up to a size, until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import os
import select
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from rlm_kernel.errors import ContextTooLarge
from rlm_kernel.sandbox.blob import BinaryFound
from rlm_kernel.sandbox.listing import unreadable

CHUNK = 1024 * 1024
HEAD = 16
_MIB = 1024 * 1024


class Stopped(Exception):
    """A read was told to stop."""


class Stop:
    """Ends a read in another thread: before its next piece, and at once where it waits for a pipe."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def over(self, read: asyncio.Future[Any]) -> None:
        """Free it, once; for `add_done_callback` of the read, whose failure nobody may be left to hear of."""
        os.close(self._read)
        os.close(self._write)
        if not read.cancelled():
            read.exception()

    def set(self) -> None:
        """End the read."""
        os.write(self._write, b"\0")

    def check(self, file: BinaryIO | io.RawIOBase | None = None) -> None:
        """Return when `file` has something to read, or its end; without one at once. Raise `Stopped`."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        if file is not None:
            poll.register(file, select.POLLIN)
        if any(number == self._read for number, _ in poll.poll(0 if file is None else None)):
            raise Stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What ends the storing of the context `source` early: more than `max_bytes` of it, or `stop`."""

    source: str
    max_bytes: int | None = None
    stop: Stop | None = None

    def check(self, size: int) -> None:
        """Raise `ContextTooLarge` for a context of `size` bytes or more that is too large, and `Stopped`."""
        if self.stop is not None:
            self.stop.check()
        if self.max_bytes is not None and size > self.max_bytes:
            raise ContextTooLarge(
                f"the context {self.source} has {size / _MIB:,.1f} MiB or more, which never fits into the session's "
                f"memory of {self.max_bytes / _MIB:,.0f} MiB: allow over twice the context's size with --memory"
            )

    @contextlib.contextmanager
    def opened(self, path: Path) -> Iterator[io.FileIO]:
        """Open a file or pipe. Raise `ContextUnreadable`."""
        # To wait for a pipe's writer here, where nothing could end it, is left to `pieces`.
        flags = os.O_NONBLOCK if self.stop is not None else 0
        try:
            file = io.FileIO(path, opener=lambda name, mode: os.open(name, mode | flags))
        except OSError as error:
            raise unreadable(path, error) from None
        with file:
            yield file

    def pieces(self, file: BinaryIO | io.RawIOBase, path: Path | None = None) -> Iterator[bytes]:
        """Read `file` (at `path`, if it has one) to its end. Raise `ContextUnreadable`, `Stopped`."""
        while True:
            try:
                if self.stop is not None:
                    self.stop.check(file)
                piece = file.read(CHUNK)
            except OSError as error:
                raise unreadable(path or Path(self.source), error) from None
            if piece is None:  # nothing there yet: a standard input that does not block, or a faster reader beside us
                if self.stop is None:
                    select.select([file], [], [])
                continue
            if not piece:
                return
            yield piece


def textual(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield `pieces`. Raise `BinaryFound` at a NUL byte."""
    for piece in pieces:
        if b"\0" in piece:
            raise BinaryFound
        yield piece


def begun(pieces: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes, `HEAD` of them if there are so many, and pieces with all bytes."""
    head = b""
    while len(head) < HEAD and (piece := next(pieces, b"")):
        head += piece
    return head, itertools.chain((head,) if head else (), pieces)
