"""What a session below adds to the calls it makes: `rlm_query`, by the clock inside the cell that calls it."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.harness import Row, in_turn
from benchmarks.stage import Stage
from rlm_kernel import RLM

ROUNDS = 5
CALLS = 3
TARGET = 0.1
TURN = "--- turn ---\n"
ROOT = f"""{TURN}```repl
import time
took = []
for number in range({CALLS}):
    time.sleep(1)  # for the pool to be full again
    begun = time.perf_counter()
    assert rlm_query("How many?", context=str(number) * 100_000) == "100000 many"
    took.append(time.perf_counter() - begun)
FINAL(took)
```
"""
CHILD = f"""{TURN}```repl
found = len(context)
```
{TURN}```repl
FINAL(f"{{found}} {{llm_query('How?')}}")
```
"""


async def rows(stage: Stage) -> list[Row]:
    """Measure sessions of two turns and one sub-call, whose models answer at once, from the pool and started cold."""
    root, sub = stage.folder / "root.md", stage.folder / "sub.md"
    root.write_text(ROOT + CHILD * CALLS)
    sub.write_text(f"{TURN}many\n" * CALLS)
    taken = await in_turn({str(size): partial(_calls, stage, root, sub, size) for size in (2, 0)}, ROUNDS)
    return [
        Row(
            name="rlm_query, two turns and a sub-call answered at once, from the pool",
            value=taken["2"],
            baseline=taken["0"],
            against="cold",
            target=TARGET / taken["0"].median,
        )
    ]


async def _calls(stage: Stage, root: Path, sub: Path, size: int) -> float:
    settings = replace(stage.settings, pool_size=size)
    async with RLM(f"scripted:{root}", f"scripted:{sub}", settings=settings) as rlm:
        result = await rlm.acompletion("Measure.", "x")
    return float(statistics.median(json.loads(result.answer)))
