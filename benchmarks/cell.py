"""A trivial cell, from the call to its result, against the same cell in a kernel on this host."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial

from benchmarks import bare_kernel
from benchmarks.harness import Row, in_turn
from benchmarks.stage import Stage, timed_cell

ROUNDS = 400
TARGET = 1.5
CELL = "x = 1"


async def rows(stage: Stage) -> list[Row]:
    """Run one cell at a time in live sessions and in a live bare kernel, in turn."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(bare_kernel.bare_kernel(stage.folder))
        await bare_kernel.ready(client)
        sessions = {carrier: await stack.enter_async_context(stage.session(carrier)) for carrier in stage.carriers}
        taken = await in_turn(
            {
                "kernel": partial(bare_kernel.timed_cell, client, CELL),
                **{carrier: partial(timed_cell, session, CELL) for carrier, session in sessions.items()},
            },
            ROUNDS,
            warm_up=20,
        )
    return [
        Row(
            name=f"trivial cell, {carrier}",
            value=taken[carrier],
            baseline=taken["kernel"],
            against="bare kernel",
            target=TARGET if carrier == stage.carriers[0] else None,
        )
        for carrier in stage.carriers
    ]
