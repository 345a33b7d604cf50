"""Answers on disk: one file for each, by the digest of all that could change the answer."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path

import msgspec

from rlm_kernel.errors import StorageError
from rlm_kernel.models.model import Completion, ModelRequest
from rlm_kernel.storage import UNFINISHED, abandoned, private_folder, storage_error, unfinished_file
from rlm_kernel.types import JSON, Origin, Usage

KEY_VERSION = 1
_LEFT = 0.8
"""What is kept, of the most that there may be, when there was too much."""
_LOOK_AGAIN = 0.05
"""After how much new, of the most that there may be, the whole is counted again: other processes write too."""


def request_key(model: Mapping[str, JSON], request: ModelRequest) -> str:
    """Return the digest of what makes requests equal, and of `model`: what tells it from every other one."""
    asked = {field.name: getattr(request, field.name) for field in fields(request) if field.compare}
    content = msgspec.json.encode({"key": KEY_VERSION, "model": model, **asked}, order="sorted")
    return hashlib.sha256(content).hexdigest()


class StoredAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One file's content: the answer to `key`, and the run that asked for it, at a time in UTC."""

    key: str
    run: str
    at: str
    completion: Completion


class AnswerStore:
    """A folder of answers that many processes may use, of `max_bytes` at most, the least recently used going first.

    A file that is not whole is none. No failure of the disk is raised: `tell` is told of the first one, and nothing
    more is stored.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.tell: Callable[[str], None] | None = None
        self._folder = folder
        self._max = max_bytes
        self._new = float(max_bytes)
        self._broken = False

    def get(self, key: str) -> Completion | None:
        """Return the answer to `key`, with its origin and no usage."""
        path = self._path(key)
        try:
            digest, _, content = path.read_bytes().partition(b"\n")
            if hashlib.sha256(content).hexdigest().encode() != digest:
                return None
            stored = msgspec.json.decode(content, type=StoredAnswer)
        except (OSError, msgspec.DecodeError):
            return None
        if stored.key != key:
            return None
        with suppress(OSError):
            os.utime(path)
        return answer_again(stored.completion, Origin(how="stored", run=stored.run, at=stored.at))

    async def put(self, key: str, run: str, completion: Completion) -> None:
        """Keep an answer. A cancel leaves it whole or not there."""
        if self._broken:
            return
        content = msgspec.json.encode(StoredAnswer(key=key, run=run, at=now(), completion=completion))
        try:
            if self._new > self._max * _LOOK_AGAIN:
                self._new = 0.0
                await asyncio.to_thread(self._make_room)
            self._write(self._path(key), hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
        except (OSError, StorageError) as error:
            self._broken = True
            reason = storage_error(error, self._folder) if isinstance(error, OSError) else error
            if self.tell is not None:
                self.tell(f"answers are no longer stored for later runs: {reason}")
        self._new += len(content)

    def _write(self, path: Path, content: bytes) -> None:
        private_folder(path.parent)
        descriptor, unfinished = unfinished_file(path.parent)
        with os.fdopen(descriptor, "wb") as file:  # the lock goes with the descriptor, so the name comes first
            try:
                file.write(content)
                file.flush()
                unfinished.replace(path)
            except BaseException:  # half a file takes up room
                unfinished.unlink(missing_ok=True)
                raise

    def _make_room(self) -> None:
        """Count what is there, and remove the least recently used if it is too much, and what killed writers left."""
        found: list[tuple[float, int, Path]] = []
        for path in self._folder.glob("*/*"):
            if path.name.startswith(UNFINISHED):
                with abandoned(path) as left:
                    if left:
                        path.unlink(missing_ok=True)
                continue
            with suppress(FileNotFoundError):  # another process removed it
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        size = sum(size for _, size, _ in found)
        if size <= self._max * (1 - _LOOK_AGAIN):
            return
        for _, length, path in sorted(found):
            if size <= self._max * _LEFT:
                return
            path.unlink(missing_ok=True)
            size -= length

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / key


def answer_again(completion: Completion, origin: Origin) -> Completion:
    """Return an answer as one that nobody has to pay for again."""
    return replace(completion, usage=Usage(), attempts=0, cached=origin)


def now() -> str:
    """Return the time in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
