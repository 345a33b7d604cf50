"""What is recorded of what a guest says of its chunks."""

from __future__ import annotations

from typing import Any

import pytest

from rlm_kernel.events import CellOutput, ContextChunked
from rlm_kernel.guest.wire import Channel
from rlm_kernel.kernel.chunked import CHUNKED_MIME, LONGEST, MOST_RECORDED
from tests.support.guest import Guest
from tests.unit.kernel.test_client import begin, finish, started

REPORT: dict[str, Any] = {
    "strategy": "lines",
    "chunks": 3,
    "characters": 17,
    "shortest": 5,
    "longest": 7,
    "size": 8,
    "overlap": 1,
}


async def tell(guest: Guest, parent: str, report: Any) -> None:
    """Send a report as the guest does."""
    await guest.jupyter(Channel.IOPUB, "display_data", parent, data={CHUNKED_MIME: report}, metadata={}, transient={})


async def test_a_report_is_an_event_and_no_output() -> None:
    """The recording holds what the guest said; the model is shown nothing of it."""
    async with started() as (guest, client, events):
        task, parent = await begin(guest, client)
        await tell(guest, parent, REPORT)
        result = await finish(guest, task, parent)
        assert result.outputs == ()
        assert events.of(ContextChunked) == [ContextChunked(cell=1, **REPORT)]
        assert events.of(CellOutput) == []


async def test_a_guest_that_never_stops_telling_is_heard_so_often_and_no_more() -> None:
    """A flood of reports, and reports after the cell's end, leave no trace beyond the bound."""
    async with started() as (guest, client, events):
        task, parent = await begin(guest, client)
        for _ in range(MOST_RECORDED * 3):
            await tell(guest, parent, REPORT)
        await finish(guest, task, parent)
        await tell(guest, parent, REPORT)
        task, later = await begin(guest, client, cell=2)
        await tell(guest, parent, REPORT)
        await tell(guest, later, REPORT)
        await finish(guest, task, later)
        assert [event.cell for event in events.of(ContextChunked)] == [1] * MOST_RECORDED + [2]


@pytest.mark.parametrize(
    "report",
    [
        None,
        [],
        {},
        REPORT | {"strategy": "x" * 50},
        REPORT | {"strategy": "lines\n"},
        REPORT | {"chunks": -1},
        REPORT | {"chunks": 2**53 + 1},
        REPORT | {"size": 1e300},
        REPORT | {"size": "8"},
        REPORT | {"more": 1},
        REPORT | {"strategy": "y" * LONGEST},
        {key: value for key, value in REPORT.items() if key != "overlap"},
    ],
)
async def test_a_report_of_another_shape_is_a_display_like_any_other(report: Any) -> None:
    """What is not a report word by word never becomes an event; the session goes on."""
    async with started() as (guest, client, events):
        task, parent = await begin(guest, client)
        await tell(guest, parent, report)
        result = await finish(guest, task, parent)
        assert events.of(ContextChunked) == []
        assert len(result.outputs) == len(events.of(CellOutput)) == 1
