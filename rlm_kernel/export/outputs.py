"""What is left of a cell's outputs as a notebook shows them: some were cleared, some changed by later ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from rlm_kernel.events import CellOutput, CellOutputCleared
from rlm_kernel.export.shown import Shown, Stream, shown
from rlm_kernel.recording import Recording
from rlm_kernel.recording.index import Cell, Node
from rlm_kernel.types import JSON

_MOST_UPDATED = 16 * 1024 * 1024
"""Bytes of updates that a document takes: one update may change any number of displays, and is written for each."""


class _Change(msgspec.Struct, frozen=True):
    display_id: Any = None
    update: Any = False


class _Line(msgspec.Struct, frozen=True):
    event: _Change


_LINE = msgspec.json.Decoder(_Line)


class Outputs:
    """The outputs of a session's cells, each cell's on demand."""

    def __init__(self, recording: Recording, node: Node) -> None:
        self._recording = recording
        self._updates = dict(_updates(recording, node))
        self._room = _MOST_UPDATED

    def of(self, cell: Cell) -> list[Shown]:
        """Return what is left of a cell's outputs, successive text of one stream joined."""
        kept: list[tuple[CellOutput, int]] = []
        clear = False
        for seq in cell.outputs:
            event = self._recording.event(seq)
            if isinstance(event, CellOutputCleared):
                clear = event.wait
                if not event.wait:
                    kept.clear()
            elif isinstance(event, CellOutput) and not event.update:
                if clear:
                    kept.clear()
                clear = False
                kept.append((event, seq))
        return list(_joined(self._as_updated(event, seq) for event, seq in kept))

    def _as_updated(self, event: CellOutput, seq: int) -> dict[str, JSON]:
        changed = self._updates.get(event.display_id or "", -1)
        if changed < seq:
            return event.output
        self._room -= len(self._recording.line(changed))
        if self._room < 0:
            return {"output_type": "display_data", "data": {"text/plain": "[as updated; left out, as it is too large]"}}
        return self._recording.expect(changed, CellOutput).output


def _updates(recording: Recording, node: Node) -> Iterator[tuple[str, int]]:
    """Yield the name of each display that is updated and where, its last update last."""
    for seq in sorted(seq for cell in node.cells.values() for seq in cell.outputs):
        change = recording.part(seq, _LINE).event
        if change.update is True and isinstance(change.display_id, str):
            yield change.display_id, seq


def _joined(outputs: Iterator[dict[str, JSON]]) -> Iterator[Shown]:
    name, pieces = "", list[str]()
    for output in outputs:
        item = shown(output)
        if pieces and not (isinstance(item, Stream) and item.name == name):
            yield Stream(name, "".join(pieces))
            pieces = []
        if isinstance(item, Stream):
            name = item.name
            pieces.append(item.text)
        else:
            yield item
    if pieces:
        yield Stream(name, "".join(pieces))
