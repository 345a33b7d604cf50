"""Cells over their time limit: until the result is there, and until the session is usable again."""

from __future__ import annotations

import time
from functools import partial

from benchmarks.harness import Row, Samples, in_turn
from benchmarks.stage import Stage
from rlm_kernel.session import Session

ROUNDS = 5
LIMIT = 0.3
TARGET = 2.0
IGNORED = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
CATCHES = "import time\nwhile True:\n    try: time.sleep(60)\n    except BaseException: pass"

CELLS = {
    "time.sleep": "import time; time.sleep(60)",
    "await asyncio.sleep": "import asyncio; await asyncio.sleep(60)",
    "while True: pass": "while True: pass",
    "a regular expression": "import re; re.match('(a+)+$', 'a' * 60 + 'b')",
    "signals ignored": f"{IGNORED}while True: pass",
    "signals ignored, time.sleep": f"{IGNORED}import time; time.sleep(60)",
    "the interpreter held": "sum(range(10**12))",
    "all exceptions caught": CATCHES,
}


async def rows(stage: Stage) -> list[Row]:
    """Run each cell in a live session, and for the baseline one that ends its kernel at once."""
    usable: dict[str, list[float]] = {name: [] for name in (*CELLS, "exit")}
    async with stage.session(stage.carriers[0], cell_timeout=LIMIT) as session:
        measures = {name: partial(_cell, session, code, usable[name]) for name, code in CELLS.items()}
        measures["exit"] = partial(_cell, session, "import os; os._exit(0)", usable["exit"])
        taken = await in_turn(measures, ROUNDS)
    limit = Samples((LIMIT,))
    start = Samples(tuple(usable["exit"][1:]))
    return [
        *(
            Row(
                name=f"{name}: its result",
                value=taken[name],
                baseline=limit,
                against="the limit",
                compare="difference",
                target=TARGET,
            )
            for name in CELLS
        ),
        *(
            Row(
                name=f"{name}: the next cell",
                value=Samples(tuple(usable[name][1:])),
                baseline=start,
                against="a kernel's start",
            )
            for name in CELLS
        ),
    ]


async def _cell(session: Session, code: str, usable: list[float]) -> float:
    """Return the seconds until a cell's result, and keep those of the cell after it."""
    started = time.perf_counter()
    await session.run_cell(code, turn=1)
    done = time.perf_counter()
    await session.run_cell("x = 1", turn=1)
    usable.append(time.perf_counter() - done)
    return done - started
