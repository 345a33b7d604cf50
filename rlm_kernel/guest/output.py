# mypy: disable-error-code="no-untyped-call"
"""The kernel's own ways out (stdout, stderr, displays, results), each cut before a message is made."""

import codecs
import os
import select
import sys
import threading
from typing import Any

from ipykernel.displayhook import ZMQShellDisplayHook
from ipykernel.iostream import OutStream
from ipykernel.zmqshell import ZMQDisplayPublisher

from .accounts import CellAccounts
from .cuts import cut_bundle, sound
from .rate import Rate

ACCOUNTS = CellAccounts()
FLUSHES = Rate(burst=1_000, per_second=200)
"""A flush is a message of its own as long as this lasts; later ones wait for the next, `flush_interval` away."""

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
        if self._fid is not None and not self._is_master_process():
            return self._write_from_a_fork(string)
        parent = self.parent_header
        kept = ACCOUNTS.take_text(parent, string)
        if kept:
            super().write(kept)
            if len(kept) != len(string) and ACCOUNTS.cut(parent.get("msg_id", "")):
                self.flush_now()  # what was kept shall be there even if the kernel does not live on
        return len(string)

    def _write_from_a_fork(self, string: str) -> int:
        """Write to the pipe, so that the kernel counts what a forked process prints as it does every child's."""
        data = memoryview(sound(string).encode())
        while data:
            data = data[os.write(self._original_stdstream_fd, data) :]
        return len(string)

    def write_mark(self, parent: dict[str, Any], mark: str) -> None:
        """Write past the limit, as output of the cell whose request has the header `parent`."""
        token = self._parent_header.set(parent)
        try:
            super().write(mark)
        finally:
            self._parent_header.reset(token)

    def flush(self) -> None:
        """Send what was written; in a flood of flushes, let it go with the next message."""
        if FLUSHES.take(1):
            self.flush_now()

    def flush_now(self) -> None:
        """Send what was written, before something that is to come after it; a flush that is under way is waited for."""
        super().flush()


def flush_streams() -> None:
    """Send all text before a message of another kind is sent."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, CutStream):
            stream.flush_now()


def end_cell_output() -> None:
    """Send a cell's last output and say what was cut, of late output of earlier cells too."""
    streams = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, CutStream)]
    for stream in streams:
        stream.drain()
    if streams:
        for parent, mark in ACCOUNTS.marks():
            streams[0].write_mark(parent, mark)
    flush_streams()


class CutPublisher(ZMQDisplayPublisher):
    """Publishes displays whose data is cut."""

    def publish(self, data: Any, metadata: Any = None, source: Any = None, **kwargs: Any) -> None:
        """Publish one display, or count it when its cell has shown too much."""
        data, cut = cut_bundle(data)
        ACCOUNTS.add_cut(self.parent_header, cut)
        if ACCOUNTS.take_display(self.parent_header, data):
            super().publish(data, metadata, source=source, **kwargs)

    def clear_output(self, wait: bool = False) -> None:
        """Take back what was shown, which counts as one display."""
        if ACCOUNTS.take_display(self.parent_header, {}):
            super().clear_output(wait)

    def _flush_streams(self) -> None:
        flush_streams()


class CutDisplayHook(ZMQShellDisplayHook):
    """Sends the value of a cell's last expression, its data cut."""

    def write_format_data(self, format_dict: Any, md_dict: Any = None) -> None:
        """Take the value's forms."""
        data, cut = cut_bundle(format_dict)
        ACCOUNTS.add_cut(self.parent_header, cut)
        super().write_format_data(data, md_dict)

    def finish_displayhook(self) -> None:
        """Send the value, or count it when its cell has shown too much."""
        flush_streams()
        if self.msg and not ACCOUNTS.take_display(self.parent_header, self.msg["content"]["data"]):
            self.msg = None
        super().finish_displayhook()
