# mypy: disable-error-code="no-untyped-call"
"""The kernel's own ways out (stdout, stderr, displays, results), each cut before a message is made."""

import codecs
import os
import select
import threading
from typing import Any

from ipykernel.displayhook import ZMQShellDisplayHook
from ipykernel.iostream import OutStream
from ipykernel.zmqshell import ZMQDisplayPublisher

from .cuts import CellAccounts, cut_bundle

ACCOUNTS = CellAccounts()
PIPE_READS = 64
"""Reads of 64 KiB in one go, so that a child that writes for ever can't hold up a cell's end."""


class CutStream(OutStream):
    """A stdout or stderr that passes on what its cell may still write.

    What child processes and C code write to the descriptor is read from a pipe: by a thread, and at a cell's end by
    the cell itself, so that it arrives before the cell is over.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._pipe_lock = threading.Lock()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        super().__init__(*args, **kwargs)

    def drain(self) -> None:
        """Write what the pipe holds now."""
        if self._fid is None:
            return
        with self._pipe_lock:
            for _ in range(PIPE_READS):
                try:
                    data = os.read(self._fid, 64 * 1024)
                except BlockingIOError:
                    return
                self.write(self._decoder.decode(data))

    def _watch_pipe_fd(self) -> None:
        """Drain the pipe whenever something is in it; the base runs this in a thread."""
        assert self._fid is not None
        os.set_blocking(self._fid, False)
        poll = select.poll()
        poll.register(self._fid, select.POLLIN)
        while self._should_watch:
            poll.poll()
            self.drain()

    def write(self, string: str) -> int:
        """Take all of `string`, pass on what is kept."""
        kept = ACCOUNTS.take_text(self.parent_header.get("msg_id", ""), string)
        if kept:
            super().write(kept)
        return len(string)

    def write_mark(self, mark: str) -> None:
        """Write past the limit."""
        super().write(mark)


class CutPublisher(ZMQDisplayPublisher):
    """Publishes displays whose data is cut."""

    def publish(self, data: Any, metadata: Any = None, source: Any = None, **kwargs: Any) -> None:
        """Publish one display, or count it when its cell has shown too much."""
        data = cut_bundle(data)
        if ACCOUNTS.take_display(self.parent_header.get("msg_id", ""), data):
            super().publish(data, metadata, source=source, **kwargs)


class CutDisplayHook(ZMQShellDisplayHook):
    """Sends the value of a cell's last expression, its data cut."""

    def write_format_data(self, format_dict: Any, md_dict: Any = None) -> None:
        """Take the value's forms."""
        super().write_format_data(cut_bundle(format_dict), md_dict)
