"""The content store: every context once, named by its digest, ready to be linked into a session's folder."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import stat
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import msgspec

from rlm_kernel.errors import ContextBinary, ContextEncoding, ContextError, ContextNotFound, ContextUnreadable
from rlm_kernel.events import ContextStored
from rlm_kernel.pictures import MAX_BYTES, is_picture, look_at
from rlm_kernel.sandbox.blob import BinaryFound, Blob, NotUtf8
from rlm_kernel.sandbox.formats import TEXT, Converter, Form, as_json, check_json
from rlm_kernel.sandbox.found import find_context
from rlm_kernel.sandbox.given import Contexts, Frame, One, Value, opened
from rlm_kernel.sandbox.listing import (
    NAMES_SAID,
    Entry,
    Listing,
    fingerprint,
    near,
    readable,
    settled,
    some,
    unreadable,
)
from rlm_kernel.sandbox.reading import CHUNK, Bounds, Stop, begun, textual
from rlm_kernel.sandbox.stored import Kind, StoredContext, StoredContexts
from rlm_kernel.sandbox.unneeded import take
from rlm_kernel.storage import private_folder, unfinished_file

__all__ = ["ContextStore", "StoredContext"]

NAMES_KEPT = 20
SETTLE_SECONDS = 2.0
"""How long a file must have been left alone before its times tell one content from the next, as git has it."""
STOP_SECONDS = 10.0
"""How long a cancelled `put` waits for its reader, which stops within a piece unless the disk hangs."""


class ContextStore:
    """Contexts in one folder (0700), each copied once while it is hashed and checked, in pieces of 1 MiB.

    Safe to use from many processes at once. A path that was stored before and has not changed since is not read again.
    Every way to put one raises a `ContextError` for what can't be a context, `ContextTooLarge` as soon as it is clear
    that it has more than `max_bytes`, and `StorageFull` or `StorageError`; then, and when it is interrupted, nothing of
    it stays in the store. Content that no run needs goes with `remove_unneeded`.
    """

    def __init__(self, root: Path, *, settle_seconds: float = SETTLE_SECONDS) -> None:
        """Make the folder. Raise `StorageFull` or `StorageError`."""
        self._root = root
        self._settle_seconds = settle_seconds
        self._known = root / "known"
        private_folder(root)
        private_folder(self._known)

    async def put_all(self, contexts: Contexts, *, max_bytes: int | None = None) -> StoredContexts:
        """Store each of several contexts, one after the other, as `put` does."""
        parts = [replace(await self.put(context, max_bytes=max_bytes), name=name) for name, context in contexts.items()]
        return StoredContexts(tuple(parts))

    async def put(self, context: One, *, skip_binary: bool = False, max_bytes: int | None = None) -> StoredContext:
        """Store what is at a path, or a value, in a thread of its own; a pipe is waited for.

        A cancel ends the reading and leaves nothing in the store. One that is stored already is returned as it is.
        """
        if isinstance(context, StoredContext):
            return context
        stop = Stop()
        source, form = opened(context)
        if isinstance(source, Path):
            work = partial(self.put_path, source, form, skip_binary=skip_binary, max_bytes=max_bytes, stop=stop)
        else:
            work = partial(self.put_value, source, max_bytes=max_bytes, stop=stop)
        done = asyncio.get_running_loop().run_in_executor(None, work)
        done.add_done_callback(stop.over)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            if not done.done():
                stop.set()
                await asyncio.wait({done}, timeout=STOP_SECONDS)
            raise

    def put_path(
        self,
        path: Path,
        form: Form = TEXT,
        *,
        skip_binary: bool = False,
        max_bytes: int | None = None,
        stop: Stop | None = None,
    ) -> StoredContext:
        """Store a file or pipe, read as `form`, or a folder; `skip_binary` leaves out its files that are not text."""
        try:
            seen = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise ContextNotFound(f"there is no context at {readable(path)}{near(path)}") from None
        except OSError as error:
            raise unreadable(path, error) from None
        bounds = Bounds(source=readable(path), max_bytes=max_bytes, stop=stop)
        if stat.S_ISDIR(seen.st_mode):
            if form is not TEXT:
                raise ContextUnreadable(f"{bounds.source} is a folder; {form.name} is what a file can be read as")
            return self._put_folder(path, bounds, skip_binary=skip_binary)
        if stat.S_ISREG(seen.st_mode):
            return self._put_file(Entry.of("", path, seen), bounds, form)
        if stat.S_ISSOCK(seen.st_mode) or stat.S_ISBLK(seen.st_mode):
            raise ContextUnreadable(f"the context {bounds.source} is neither a file nor a folder nor a pipe")
        with bounds.opened(path) as file:
            return self._put_stream(file, bounds, form)

    def put_stream(
        self, file: BinaryIO, form: Form = TEXT, *, source: str = "stdin", max_bytes: int | None = None
    ) -> StoredContext:
        """Store what `file` gives until its end, read as `form`."""
        return self._put_stream(file, Bounds(source=source, max_bytes=max_bytes), form)

    def put_value(
        self, value: Frame | Value | bytes | msgspec.Raw, *, max_bytes: int | None = None, stop: Stop | None = None
    ) -> StoredContext:
        """Store a `str` or an image's `bytes` as it is, anything else as JSON, a data frame as the list of its rows."""
        if isinstance(value, bytes):
            return self._put_image(value, Bounds(source="value", max_bytes=max_bytes, stop=stop))
        try:
            text = value if isinstance(value, str) else as_json(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise ContextError(f"the context is neither text nor a JSON value: {error}") from None
        bounds = Bounds(source="value", max_bytes=max_bytes, stop=stop)
        bounds.check(len(text))
        pieces = (text[start : start + CHUNK].encode() for start in range(0, len(text), CHUNK))
        with Blob(self._root, bounds.check) as blob:
            try:
                blob.add(pieces)
            except UnicodeEncodeError as error:
                raise ContextEncoding(f"the context holds half a character: {error.object[error.start]!r}") from None
            return self._commit(blob, "str" if isinstance(value, str) else "json", bounds.source)

    def find(self, wanted: ContextStored, *folders: Path, max_bytes: int | None = None) -> StoredContext:
        """Return a recorded context by its digest, brought from one of `folders` if the store does not have it.

        Its bytes are read whole and checked. Raise `ContextMissing`.
        """
        return find_context(self._root, wanted, folders, Bounds(source=wanted.source, max_bytes=max_bytes))

    def _put_stream(self, file: BinaryIO | io.RawIOBase, bounds: Bounds, form: Form = TEXT) -> StoredContext:
        converter = Converter(form, bounds.source)
        with Blob(self._root, bounds.check) as blob:
            pieces = bounds.pieces(file)
            if form is TEXT:
                head, pieces = begun(pieces)
                if is_picture(head):
                    return self._put_image(_up_to(MAX_BYTES, pieces), bounds)
            try:
                blob.add(textual(pieces) if form is TEXT else converter.read(textual(pieces)))
            except BinaryFound:
                raise ContextBinary(f"the context {bounds.source} is binary; convert it to text first") from None
            except NotUtf8 as error:
                raise _not_utf8(bounds.source, error.offset, "convert it, for example with iconv -t UTF-8") from None
            if form.name == "json":
                with blob.written() as text:
                    check_json(text, bounds.source)
            stored = self._commit(blob, "str" if form is TEXT else "json", bounds.source)
            return replace(stored, value_size=converter.value_size)

    def _put_image(self, data: bytes, bounds: Bounds) -> StoredContext:
        try:
            picture = look_at(data)
        except ValueError as error:
            raise ContextBinary(f"the image {bounds.source} can't be a context: {error}") from None
        with Blob(self._root, bounds.check) as blob:
            blob.add_bytes(data)
            return replace(self._commit(blob, "image", bounds.source), picture=picture)

    def _put_file(self, entry: Entry, bounds: Bounds, form: Form) -> StoredContext:
        bounds.check(entry.size)
        key = fingerprint("str" if form is TEXT else repr(form), [entry])
        if (known := self._recall(key)) is not None:
            return replace(known, source=bounds.source)
        quiet = settled([entry], self._settle_seconds)
        with bounds.opened(entry.path) as file:
            stored = self._put_stream(file, bounds, form)
            unchanged = entry == Entry.of("", entry.path, os.fstat(file.fileno()))
        if quiet and unchanged:
            self._remember(key, stored)
        return stored

    def _put_folder(self, folder: Path, bounds: Bounds, *, skip_binary: bool) -> StoredContext:
        listing = Listing(folder, lambda: bounds.check(0))
        key = fingerprint(f"files {skip_binary} {listing.notes}", listing.entries)
        if (known := self._recall(key)) is not None:
            bounds.check(known.size)
            return replace(known, source=bounds.source)
        if not listing.entries:
            raise ContextNotFound(f"the folder {bounds.source} holds no files")
        if not skip_binary:
            bounds.check(sum(entry.size for entry in listing.entries))
        quiet = settled(listing.entries, self._settle_seconds)
        with Blob(self._root, bounds.check) as blob:
            reading = _Reading(blob, listing.entries, bounds, skip_binary=skip_binary)
            stored = replace(
                self._commit(blob, "files", bounds.source),
                files=len(reading.index),
                names=tuple(name for name, _, _ in reading.index[:NAMES_KEPT]),
                notes=(*listing.notes, *reading.notes),
            )
        with Blob(self._root) as blob:
            index = json.dumps({"files": reading.index}, ensure_ascii=False, separators=(",", ":"))
            blob.add([index.encode()])
            digest = blob.commit()
        stored = replace(stored, index_path=self._root / digest, index_digest=digest)
        if quiet and reading.unchanged:
            self._remember(key, stored)
        return stored

    def _commit(self, blob: Blob, kind: Kind, source: str) -> StoredContext:
        digest, counts = blob.commit(), blob.counts
        return StoredContext(
            digest=digest,
            kind=kind,
            size=counts.size,
            chars=counts.chars,
            decoded_size=counts.decoded_size,
            source=source,
            path=self._root / digest,
            preview=counts.preview,
        )

    def _recall(self, key: str) -> StoredContext | None:
        """Return what was stored under a fingerprint, if all of it is still there."""
        try:
            raw = (self._known / key).read_bytes()
            stored = msgspec.json.decode(raw, type=StoredContext, dec_hook=lambda _, text: Path(text))
            stored = replace(stored, path=self._root / stored.digest)
            if stored.index_digest is not None:
                stored = replace(stored, index_path=self._root / stored.index_digest)
            return stored if stored.path.stat().st_size == stored.size and take(*stored.files_in_store) else None
        except (OSError, msgspec.MsgspecError):
            return None

    def _remember(self, key: str, stored: StoredContext) -> None:
        """Note a fingerprint; where that can't be, the content is read again next time."""
        index = Path(stored.index_digest) if stored.index_digest is not None else None
        note = msgspec.json.encode(replace(stored, path=Path(stored.digest), index_path=index), enc_hook=str)
        with contextlib.suppress(OSError):
            handle, part = unfinished_file(self._known)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(note)
                    file.flush()
                    part.rename(self._known / key)
            except OSError:
                part.unlink(missing_ok=True)


class _Reading:
    """All files of a folder, read into one blob; where each lies in it, and what was left out."""

    def __init__(self, blob: Blob, entries: list[Entry], bounds: Bounds, *, skip_binary: bool) -> None:
        self.index: list[tuple[str, int, int]] = []
        self.unchanged = True
        self._bounds = bounds
        self._binary: list[str] = []
        self._skip_binary = skip_binary
        for entry in entries:
            self._read(blob, entry)
        if self._binary and not skip_binary:
            raise self._refusal()

    @property
    def notes(self) -> list[str]:
        """Say what was left out."""
        return [f"not text, so left out: {some(self._binary)}"] if self._binary else []

    def _read(self, blob: Blob, entry: Entry) -> None:
        start = blob.counts.size
        with self._bounds.opened(entry.path) as file:
            try:
                blob.add(textual(self._bounds.pieces(file, entry.path)))
                self.index.append((entry.name, start, blob.counts.size - start))
            except NotUtf8 as error:
                if not self._skip_binary:
                    hint = "convert it with iconv -t UTF-8, or leave such files out with --skip-binary"
                    raise _not_utf8(readable(entry.path), error.offset, hint) from None
                self._binary.append(entry.name)
            except BinaryFound:
                self._binary.append(entry.name)
                if len(self._binary) == NAMES_SAID and not self._skip_binary:
                    raise self._refusal() from None
            now = Entry.of(entry.name, entry.path, os.fstat(file.fileno()))
            self.unchanged = self.unchanged and now == entry

    def _refusal(self) -> ContextBinary:
        return ContextBinary(
            f"the folder holds binary files, among them {some(self._binary)}; leave them out with --skip-binary"
        )


def _up_to(size: int, pieces: Iterable[bytes]) -> bytes:
    """Return all bytes, or of too many no more than are needed to tell so."""
    data = bytearray()
    for piece in pieces:
        data += piece
        if len(data) > size:
            break
    return bytes(data)


def _not_utf8(source: str, offset: int, hint: str) -> ContextEncoding:
    return ContextEncoding(f"{source} is not UTF-8 from byte {offset} on; {hint}")
