"""The cells of a recorded session beside the same cells while they run again, one after another."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import replace

from rlm_kernel.events import SandboxStarted
from rlm_kernel.recording.compare.cells import Circumstances, compare_cells
from rlm_kernel.recording.compare.ran import Ran, read_cell
from rlm_kernel.recording.compare.runs import names_of, surroundings, unpinned
from rlm_kernel.recording.compare.words import Reading
from rlm_kernel.recording.index import Cell, Recording


class Again:
    """What is not as it was, in words; `pinned` as for `Reading`, `boxes` are the containers that the cells had."""

    def __init__(self, recording: Recording, boxes: Collection[SandboxStarted], *, pinned: bool) -> None:
        self._recording = recording
        self._boxes = boxes
        self._reading = Reading(pinned=pinned)

    def difference(self, cell: Cell, now: Ran, boxes: Collection[SandboxStarted]) -> str | None:
        """Say how the next cell that had its end differs, None where it does not; the code is the recorded one.

        `now` is how it ran again in `boxes`. Raise `RecordingDamaged`.
        """
        then = read_cell(self._recording, cell)
        reads = self._reading.take(cell.number, then.code, [*unpinned(self._recording, cell, then)])
        began, span = self._recording.first_at, (then.at, then.at + then.seconds)
        around = Circumstances(
            then=surroundings([(began, span[1])], names_of(self._boxes)),
            now=surroundings([(began, span[0] + now.seconds), (now.at, time.time())], names_of(boxes)),
            reads=reads,
            parallel=self._reading.parallel,
        )
        compared = compare_cells(then, replace(now, code=then.code), around)
        match compared.verdict:
            case "different":
                return f"cell {cell.number}: {', '.join(compared.where)}"
            case "varies":
                return f"cell {cell.number}: {', '.join(compared.where)}, as it reads {', '.join(reads)}"
        return None
