"""A session from the warm pool against a cold one, from a text of 1 MB to the first cell's result."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

from benchmarks.harness import Row, in_turn
from benchmarks.stage import Stage, timed_cell
from rlm_kernel.sandbox.spec import Carrier
from rlm_kernel.session import SessionSpec, SlotPool, open_session

ROUNDS = 12
SIZE = 1_000_000
TARGET = 0.06
CELL = "n = context.count('7')"


async def rows(stage: Stage) -> list[Row]:
    """Measure sessions from a pool of one slot and cold ones over each carrier, in turn; each has a text of its own."""
    measures = {}
    for carrier in stage.carriers:
        for size in (1, 0):
            measures[f"{carrier} {size}"] = partial(_session, stage, carrier, size)
    taken = await in_turn(measures, ROUNDS)
    return [
        Row(
            name=f"session from the pool to first cell, 1 MB, {carrier}",
            value=taken[f"{carrier} 1"],
            baseline=taken[f"{carrier} 0"],
            against="cold",
            target=TARGET / taken[f"{carrier} 0"].median if carrier == stage.carriers[0] else None,
        )
        for carrier in stage.carriers
    ]


async def _session(stage: Stage, carrier: Carrier, size: int) -> float:
    spec = SessionSpec(
        sandbox=stage.sandbox_spec(carrier), context=stage.empty, models={}, cell_timeout=stage.settings.cell_timeout
    )
    async with SlotPool(stage.runtime, spec.sandbox, size) as slots:
        await slots.filled()
        text = f"{time.monotonic_ns():020}" * (SIZE // 20)
        started = time.perf_counter()
        stored = await stage.store.put(text)
        async with open_session(slots, replace(spec, context=stored), stage.log) as session:
            await timed_cell(session, CELL)
            return time.perf_counter() - started
