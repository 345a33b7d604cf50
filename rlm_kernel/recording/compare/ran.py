"""A cell as it ran, read from a recording: its outputs as a notebook would have them, and how it ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rlm_kernel.errors import RecordingDamaged
from rlm_kernel.events import CellFinished, CellOutput, CellOutputCleared, CellStarted, CellStatus
from rlm_kernel.recording.index import Cell, Recording
from rlm_kernel.text import joined
from rlm_kernel.types import JSON

MOST_OUTPUT = 64 * 1024 * 1024
"""Bytes of records that a cell's outputs may have here; a run never records as many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A cell as it ran. `status` is None where it has no end; `late` is what came after its end.

    `outputs` and `late` are shaped as in nbformat, successive text of one stream joined, clearings and display updates
    applied. `redacted` names the places where something was kept out of the recording.
    """

    cell: int
    turn: int
    code: str
    at: float = 0.0
    status: CellStatus | None = None
    seconds: float = 0.0
    ename: str | None = None
    evalue: str | None = None
    cut: int = 0
    final: JSON = None
    final_source: str | None = None
    outputs: tuple[dict[str, JSON], ...] = ()
    late: tuple[dict[str, JSON], ...] = ()
    redacted: tuple[str, ...] = ()


def read_cell(recording: Recording, cell: Cell) -> Ran:
    """Return a cell of `recording`. Raise `RecordingDamaged`."""
    started = recording.expect(cell.started, CellStarted)
    ended = None if cell.finished is None else recording.expect(cell.finished, CellFinished)
    events: list[CellOutput | CellOutputCleared] = []
    size = 0
    for seq in cell.outputs:
        size += len(recording.line(seq))
        if size > MOST_OUTPUT:
            raise RecordingDamaged(
                f"{recording.path}, line {seq + 1}: cell {cell.number} has more output than a cell can"
            )
        event = recording.event(seq)
        if isinstance(event, CellOutput | CellOutputCleared):
            events.append(event)
    told = [cell.started, *cell.outputs, *([] if cell.finished is None else [cell.finished])]
    return Ran(
        cell=cell.number,
        turn=cell.turn,
        code=started.code,
        at=recording.record(cell.started).at,
        status=None if ended is None else ended.status,
        seconds=0.0 if ended is None else ended.seconds,
        ename=None if ended is None else ended.ename,
        evalue=None if ended is None else ended.evalue,
        cut=0 if ended is None else ended.cut,
        final=None if ended is None else ended.final,
        final_source=None if ended is None else ended.final_source,
        outputs=folded(event for event in events if not _is_late(event)),
        late=folded(event for event in events if _is_late(event)),
        redacted=tuple(place for seq in told for place in recording.record(seq).redacted),
    )


def folded(events: Iterable[CellOutput | CellOutputCleared]) -> tuple[dict[str, JSON], ...]:
    """Return outputs as a notebook has them after `events`."""
    items: list[dict[str, JSON]] = []
    texts: list[list[str]] = []
    names: dict[str, list[int]] = {}
    clear = False
    for event in events:
        if isinstance(event, CellOutputCleared):
            clear = True
            if event.wait:
                continue
        if clear:
            items, texts, names, clear = [], [], {}, False
        if isinstance(event, CellOutputCleared):
            continue
        output = event.output
        if event.update:
            for index in names.get(event.display_id or "", []):
                items[index] = output
        elif output.get("output_type") == "stream" and items and _is_stream(items[-1], output.get("name")):
            texts[-1].append(joined(output.get("text")))
        else:
            items.append(output)
            texts.append([joined(output.get("text"))])
            if event.display_id is not None:
                names.setdefault(event.display_id, []).append(len(items) - 1)
    return tuple(
        {**item, "text": "".join(text)} if item.get("output_type") == "stream" else item
        for item, text in zip(items, texts, strict=True)
    )


def _is_late(event: CellOutput | CellOutputCleared) -> bool:
    return isinstance(event, CellOutput) and event.late


def _is_stream(item: dict[str, JSON], name: JSON) -> bool:
    return item.get("output_type") == "stream" and item.get("name") == name
