"""A recording that is read while it is written."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from rlm_kernel.errors import RecordingError
from rlm_kernel.events import AnyEvent, Record
from rlm_kernel.recording.reader import decode_line, open_recording, read_line, reading

BATCH_RECORDS, BATCH_BYTES = 100, 2**20
"""What a reader takes at once, up to the end of the record that goes over it."""


class Following:
    """Lets any number of readers follow a recording, each at its own pace and from its beginning.

    Readers read the file and are only told that there is more: none holds up the run, misses an event or holds more
    than a batch of them. It is the sink behind the log. Make it in the readers' event loop; `emit` may be called from
    any thread.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._path: Path | None = None
        self._over = self._telling = False
        self._news = asyncio.Event()

    def begin(self, path: Path) -> None:
        """Let readers read from `path`."""
        self._path = path

    def emit(self, event: AnyEvent, node: str = "") -> None:
        """Tell readers that there is more."""
        if not self._telling:
            self._telling = True
            self._loop.call_soon_threadsafe(self._tell)

    def end(self) -> None:
        """Let readers end once they have read all; called in their event loop."""
        self._over = True
        self._tell()

    async def records(self) -> AsyncIterator[Record]:
        """Yield every record in order, from the first, until the recording has ended. Raise as `read_events` does."""
        while self._path is None and not self._over:
            await self._news.wait()
        if self._path is None:
            return
        if self._over and not self._path.exists():
            raise RecordingError(
                f"the run has ended and its recording {self._path} is gone: keep it, or follow earlier"
            )
        with reading(self._path), os.fdopen(open_recording(self._path), "rb") as file:
            number = 0
            while True:
                over, news = self._over, self._news  # before reading: what comes meanwhile is read next time
                batch = await asyncio.to_thread(_read, file, self._path, number)
                number += len(batch)
                for record in batch:
                    if isinstance(record, Record):  # else an event of a later version
                        yield record
                if not batch:
                    if over:
                        return
                    await news.wait()

    def _tell(self) -> None:
        self._telling = False
        news, self._news = self._news, asyncio.Event()
        news.set()


def _read(file: BinaryIO, path: Path, number: int) -> list[Record | str]:
    """Return what there is after the first `number` records, as one batch."""
    batch: list[Record | str] = []
    size = 0
    while len(batch) < BATCH_RECORDS and size < BATCH_BYTES:
        line = read_line(file, path, number + 1)
        if not line.endswith(b"\n"):
            file.seek(-len(line), 1)  # it is being written
            break
        number, size = number + 1, size + len(line)
        batch.append(decode_line(line, path, number))
    return batch
