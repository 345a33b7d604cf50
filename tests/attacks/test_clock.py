"""Cells that undo or break the wall clock that they are given: it is theirs to lose, and nobody else's."""

from __future__ import annotations

import time

import pytest

from rlm_kernel.events import CellFinished
from tests.attacks.conftest import assert_usable, printed
from tests.docker.conftest import OpenSession
from tests.support.sinks import Events

THEN = 1_000_000_000.0
SHOW = "import datetime; print(datetime.datetime.now().year)"


async def test_a_clock_that_is_undone(open_test_session: OpenSession) -> None:
    """Whatever a cell did with the clock, the next one has that which the host gives it, or the real one."""
    async with open_test_session() as session:
        for code in (
            "time_machine.traveller_stack.clear()",
            "[time_machine.travel(n).start() for n in range(100)]",
            "time_machine.travel(253402300799.0).start()",
        ):
            await session.run_cell(f"import time_machine; {code}", turn=1, clock=THEN)
            assert printed(await session.run_cell(SHOW, turn=1, clock=THEN)) == "2001\n"
            await session.run_cell(f"import time_machine; {code}", turn=1)
            assert int(printed(await session.run_cell(SHOW, turn=1))) >= 2026
        await assert_usable(session)


@pytest.mark.parametrize(
    "code",
    [
        "import time_machine; time_machine.travel(1e18).start()",
        "import rlm_guest.shell as shell; shell.set_wall_clock = None",
    ],
)
async def test_a_clock_that_is_broken(open_test_session: OpenSession, events: Events, code: str) -> None:
    """Breaking it costs the kernel at most, each cell within its time, and the host's own time stays true."""
    began = time.monotonic()
    async with open_test_session(cell_timeout=2) as session:
        for cell in (code, SHOW, SHOW, SHOW):
            result = await session.run_cell(cell, turn=1, clock=THEN)
        assert printed(result) == "2001\n"
        await assert_usable(session)
    assert all(0 <= event.seconds < 20 for event in events.of(CellFinished))
    assert time.monotonic() - began < 60
