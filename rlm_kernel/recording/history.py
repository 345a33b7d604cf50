"""What earlier runs used: a line for each, on this machine alone, so that one can tell what is unusual."""

from __future__ import annotations

import fcntl
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from rlm_kernel.storage import private_folder, storing

HISTORY_FILE = "history.jsonl"
MOST_BYTES = 256 * 1024
"""When the file has more it becomes the older one of two, and the older one goes."""
LEAST_RUNS = 10
"""Fewer earlier runs say nothing of what is usual."""


class RunUse(msgspec.Struct, frozen=True, kw_only=True):
    """What one run used. `cost` is in US dollars, None if a price is unknown; a plain call has no `sub_model`."""

    model: str
    sub_model: str
    tokens: int
    cost: float | None


class History:
    """The lines in a state folder; a damaged one is passed over. Several processes may use it at once."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir
        self._file = state_dir / HISTORY_FILE
        self._older = state_dir / f"{HISTORY_FILE}.1"

    def add(self, run: RunUse) -> None:
        """Append a run. Raise `StorageFull` or `StorageError`."""
        private_folder(self._folder)
        # What a crash cut off stays a line of its own, as each line begins with a newline too.
        line = b"\n" + msgspec.json.encode(run) + b"\n"
        with storing(self._folder):
            descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                os.write(descriptor, line)
                grown = os.fstat(descriptor)
                if grown.st_size > MOST_BYTES and os.path.samestat(grown, self._file.stat()):
                    self._file.replace(self._older)
            finally:
                os.close(descriptor)

    def like(self, model: str, sub_model: str) -> list[RunUse]:
        """Return the earlier runs with these models; none where there is no history that can be read."""
        return [run for run in self._runs() if (run.model, run.sub_model) == (model, sub_model)]

    def _runs(self) -> Iterator[RunUse]:
        for file in (self._older, self._file):
            try:
                lines = file.read_bytes().splitlines()
            except OSError:
                continue
            for line in lines:
                try:
                    yield msgspec.json.decode(line, type=RunUse)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue


def usual(amounts: Iterable[float | None], percentile: float) -> float | None:
    """Return what `percentile` % of `amounts` do not pass (nearest rank); None if too few are known, or it is 0."""
    known: Sequence[float] = sorted(amount for amount in amounts if amount is not None)
    if len(known) < LEAST_RUNS:
        return None
    return known[max(0, math.ceil(len(known) * percentile / 100) - 1)] or None
