"""Images that cells send along with a question: found by name or decoded, looked at, and never too many at once."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from rlm_kernel.bridge.messages import ImageMessage
from rlm_kernel.events import ImageSent
from rlm_kernel.pictures import MAX_BYTES, look_at
from rlm_kernel.types import Image

MAX_CALL_BYTES = MAX_BYTES
"""Bytes of all images of one call."""
MAX_BYTES_AT_ONCE = 4 * MAX_CALL_BYTES
"""Bytes of images of all calls that are with a model; each takes some times its size on its way there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """An image of a context, in the content store."""

    digest: str
    media_type: str
    size: int
    path: Path


class Images:
    """The images that a session's cells may name, and the room that images on their way to a model share."""

    def __init__(self, stored: Mapping[str, StoredImage] | None = None) -> None:
        self._stored = stored or {}
        self._left = MAX_BYTES_AT_ONCE
        self._waiting: deque[asyncio.Future[None]] = deque()

    def described(self, sent: Sequence[ImageMessage]) -> list[ImageSent]:
        """Return what is recorded of the images. Raise `ValueError`, in words for the cell, for one that can't go."""
        found = [self._described(each, number) for number, each in enumerate(sent)]
        if (size := sum(each.size for each in found)) > MAX_CALL_BYTES:
            raise ValueError(f"its images have {size:,} bytes together, a call's may have {MAX_CALL_BYTES:,}")
        return found

    @asynccontextmanager
    async def loaded(self, sent: Sequence[ImageMessage]) -> AsyncIterator[tuple[Image, ...]]:
        """Give the images of a call that was looked at, once there is room for them. Raise `OSError`."""
        if not sent:
            yield ()
            return
        async with self._room(sum(each.size for each in self.described(sent))):
            yield tuple([await asyncio.to_thread(self._load, each) for each in sent])

    def _described(self, sent: ImageMessage, number: int) -> ImageSent:
        if sent.context is not None:
            if sent.data is not None or sent.context not in self._stored:
                raise ValueError(f"there is no image in a context called {sent.context[:100]!r}")
            image = self._stored[sent.context]
            return ImageSent(digest=image.digest, media_type=image.media_type, size=image.size, context=sent.context)
        data = _decoded(sent)
        try:
            picture = look_at(data)
        except ValueError as error:
            raise ValueError(f"its image number {number} from 0 can't be sent: {error}") from None
        return ImageSent(digest=hashlib.sha256(data).hexdigest(), media_type=picture.media_type, size=len(data))

    def _load(self, sent: ImageMessage) -> Image:
        if sent.context is not None:
            stored = self._stored[sent.context]
            return Image(stored.media_type, stored.path.read_bytes())
        data = _decoded(sent)
        return Image(look_at(data).media_type, data)

    @asynccontextmanager
    async def _room(self, size: int) -> AsyncIterator[None]:
        while self._left < size:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            finally:
                self._waiting.remove(turn)
        self._left -= size
        try:
            yield
        finally:
            self._left += size
            for turn in self._waiting:
                if not turn.done():
                    turn.set_result(None)


def _decoded(sent: ImageMessage) -> bytes:
    try:
        return base64.b64decode(sent.data or "", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("an image's data is no base64") from None
