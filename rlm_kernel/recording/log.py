"""The recording as it is written: one line of JSON per event, in the kernel's hands before `emit` returns."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from rlm_kernel.errors import RecordingError, RlmKernelError
from rlm_kernel.events import SCHEMA_VERSION, AnyEvent, Record, TreeSink
from rlm_kernel.recording.folder import EVENTS_FILE, make_run_folder, sync_folder
from rlm_kernel.recording.heads import Head, keep_head
from rlm_kernel.recording.liveness import HELD
from rlm_kernel.recording.nesting import shallow
from rlm_kernel.recording.redaction import Redaction
from rlm_kernel.storage import storage_error, storing, unfinished_file
from rlm_kernel.text import encodable
from rlm_kernel.types import JSON

LINE_LIMIT = 64 * 1024 * 1024
"""Bytes of the longest line, so that readers can bound theirs."""

SYNC_SECONDS = 0.1


def line_digest(line: bytes) -> str:
    """Return SHA-256 of a line without its newline: what the next one names, and the last one's is the head."""
    return hashlib.sha256(line).hexdigest()


class RecordingLog:
    """The event sink of one run: `events.jsonl` in a new folder `<state_dir>/runs/<run>/`.

    `emit` may be called from any thread. When it returns, the whole line is with the operating system, so a killed
    process loses nothing; a thread of its own makes lines durable against a power cut, at most every 100 ms. While the
    log is open its file is locked, which `is_written` sees. After a
    write that failed the log takes nothing more: its last line may be torn. Events carry no secrets of the host's,
    since nothing that builds them is given one; what else is to be kept out `redaction` takes out of each event, in
    the thread of who emits it, before the line is made.
    """

    def __init__(self, state_dir: Path, run: str, *, keep: bool = True, redaction: Redaction | None = None) -> None:
        """Make the folder and the file; as a context manager it removes them at its end, unless they are to be kept.

        Raise `StorageFull`, `StorageError`, or `RecordingError` if they exist."""
        self._keep = keep
        self._redaction = redaction
        self.folder = make_run_folder(state_dir, run)
        self.path = self.folder / EVENTS_FILE
        with storing(self.path):
            self._file = _locked(self.path)
        HELD.add(self)
        self._encoder = msgspec.json.Encoder()
        self._lock = threading.Lock()
        self._seq = 0
        self._head = ""
        self._failure: RlmKernelError | None = None
        self._failure_told = False
        self._closed = False
        self._dirty = threading.Event()
        self._stop = threading.Event()
        self._syncer = threading.Thread(target=self._sync, name=f"recording {run}", daemon=True)
        self._syncer.start()

    def emit(self, event: AnyEvent, node: str = "") -> None:
        """Append `event` of the session at `node`.

        Raise `RecordingError` if it can't be a line, `StorageFull` or `StorageError` if this or an earlier one failed.
        """
        event = shallow(event)
        event, redacted = (event, []) if self._redaction is None else self._marked(event, self._redaction)
        with self._lock:
            if self._closed:
                raise RecordingError(f"{self.path} is closed")
            self._raise_failure()
            line = self._line(
                Record(
                    v=SCHEMA_VERSION,
                    seq=self._seq,
                    at=time.time(),
                    event=event,
                    node=node,
                    prev=self._head,
                    redacted=redacted,
                )
            )
            self._write(line + b"\n")
            self._raise_failure()
            self._head = line_digest(line)
            self._seq += 1
        if not self._dirty.is_set():
            self._dirty.set()

    @property
    def head(self) -> Head:
        """What stands for all that was written so far."""
        with self._lock:
            return Head(digest=self._head, records=self._seq)

    def close(self) -> None:
        """Sync what is not yet durable, close the file and keep its head outside of it; safe to call twice.

        Raise what kept lines from being synced, unless an `emit` has raised it, and `StorageError` for the head.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._stop.set()
        self._dirty.set()
        self._syncer.join()
        HELD.discard(self)
        os.close(self._file)
        if not self._failure_told:
            self._raise_failure()
        if self._keep and self._failure is None:
            keep_head(self.folder.parents[1], self.folder.name, self.head)

    def let_go(self) -> None:
        """Close the log in a child process that was forked: the file, and the lock on it, are the parent's alone."""
        if not self._closed:
            self._lock, self._closed, self._keep = threading.Lock(), True, True
            os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except RlmKernelError:
            if error is None:
                raise
        finally:
            if not self._keep:
                shutil.rmtree(self.folder, ignore_errors=True)

    def _marked(self, event: AnyEvent, redaction: Redaction) -> tuple[AnyEvent, list[str]]:
        """Return what may be written of `event`; once a hook has failed nothing follows, as the event is missing."""
        try:
            return redaction.applied(event)
        except RecordingError as error:
            with self._lock:
                self._failure = self._failure or error
            raise

    def _line(self, record: Record) -> bytes:
        try:
            try:
                line = self._encoder.encode(record)
            except UnicodeEncodeError:
                line = self._encoder.encode(_encodable(msgspec.to_builtins(record)))
        except (RecursionError, ValueError) as error:
            raise RecordingError(f"{type(record.event).__name__} can't be recorded: {error}") from error
        if len(line) >= LINE_LIMIT:
            raise RecordingError(f"{type(record.event).__name__} has {len(line)} bytes, over the limit of a line")
        return line

    def _write(self, line: bytes) -> None:
        """Write `line` in one call; a part of it is a failure, as the rest could land after another line."""
        try:
            written = os.write(self._file, line)
        except OSError as error:
            self._failure = storage_error(error, self.path)
        else:
            if written < len(line):
                self._failure = storage_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), self.path)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            self._failure_told = True
            raise self._failure

    def _sync(self) -> None:
        """Sync whenever there is something new, then rest, until `close`."""
        try:
            for folder in (self.folder, *self.folder.parents[:2]):
                sync_folder(folder)
            stopping = False
            while not stopping:
                self._dirty.wait()
                stopping = self._stop.is_set()
                self._dirty.clear()
                os.fdatasync(self._file)
                self._stop.wait(SYNC_SECONDS)
        except OSError as error:
            self._failure = self._failure or storage_error(error, self.path)


class Tee:
    """A sink that hands each event to several, in order; the recording comes first.

    A failure ends the hand-out and is raised: a recording's, so that nothing unrecorded is shown or acted on; a
    display's, as a bug that should be seen, and by then the event is recorded.
    """

    def __init__(self, *sinks: TreeSink) -> None:
        self._sinks = sinks

    def emit(self, event: AnyEvent, node: str = "") -> None:
        """Hand `event` to every sink."""
        for sink in self._sinks:
            sink.emit(event, node)


class AtNode:
    """The sink of the session at `node`, which writes into the sink of the whole run."""

    def __init__(self, sink: TreeSink, node: str) -> None:
        self._sink = sink
        self._node = node

    def emit(self, event: AnyEvent) -> None:
        """Pass `event` on as one of this session."""
        self._sink.emit(event, self._node)


def _locked(path: Path) -> int:
    """Make the file, which nobody else can make, and open it for appending; it is locked before it has its name."""
    descriptor, unfinished = unfinished_file(path.parent)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_APPEND)
        unfinished.rename(path)
    except BaseException:  # nobody else knows of the descriptor yet
        os.close(descriptor)
        raise
    return descriptor


def _encodable(value: JSON) -> JSON:
    """Return `value` with each lone surrogate, which JSON text in UTF-8 can't carry, as a question mark."""
    match value:
        case str():
            return encodable(value)
        case list():
            return [_encodable(item) for item in value]
        case dict():
            return {str(_encodable(key)): _encodable(item) for key, item in value.items()}
        case _:
            return value
