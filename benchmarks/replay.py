"""Replaying a recorded run of 50 cells, less one cold start, against the time that its cells took by themselves."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from benchmarks.harness import Row, Samples
from benchmarks.stage import Stage
from rlm_kernel.assembly import RLM, ReplayReport
from rlm_kernel.config import Settings
from rlm_kernel.events import CellFinished
from rlm_kernel.recording import EVENTS_FILE, read_events

ROUNDS, CELLS = 5, 50
TARGET = 1.2
CELL = """
numbers = sorted(hash(str(n)) % 1000 for n in range(120_000))
for n in range(20):
    print(n, "a line of output that a cell prints, as long as such lines are,", numbers[n])
"""


async def rows(stage: Stage) -> list[Row]:
    """Record a run, replay it, and start a session for one trivial cell, in turn."""
    cells = Settings(state_dir=stage.folder, model=_script(stage.folder, "cells", CELL, CELLS), max_turns=CELLS + 1)
    trivial = Settings(state_dir=stage.folder, model=_script(stage.folder, "trivial", "x = 1\n", 1))
    own, replayed, cold = [], [], []
    for number in range(-1, ROUNDS):
        recording, cells_own = await _recorded(cells)
        seconds = cells_own, await _replayed(cells, recording), await _asked(trivial)
        if number >= 0:
            own.append(seconds[0])
            replayed.append(seconds[1])
            cold.append(seconds[2])
    whole, start = Samples(tuple(replayed)), Samples(tuple(cold))
    return [
        Row(
            name=f"replay of {CELLS} cells, less a cold start",
            value=whole - start,
            baseline=Samples(tuple(own)),
            against="its cells' own time",
            target=TARGET,
        ),
        Row(name="all of it", value=whole),
        Row(name="a run of one trivial cell", value=start),
    ]


def _script(folder: Path, name: str, cell: str, times: int) -> str:
    path = folder / f"{name}.md"
    turns = [*[cell] * (times - 1), f"{cell}FINAL(1)\n"]
    path.write_text("".join(f"--- turn ---\n```repl\n{code}```\n" for code in turns))
    return f"scripted:{path}"


async def _recorded(settings: Settings) -> tuple[Path, float]:
    """Run it, and return its folder and how long its cells took."""
    async with RLM(settings=settings) as rlm:
        result = await rlm.acompletion("Go on.", "x")
    events = (record.event for record in read_events(result.recording / EVENTS_FILE))
    return result.recording, sum(event.seconds for event in events if isinstance(event, CellFinished))


async def _replayed(settings: Settings, recording: Path) -> float:
    """Replay a run, and return how long that took. Raise `RuntimeError` if anything differs."""
    async with RLM(settings=settings) as rlm:
        started = time.perf_counter()
        report: ReplayReport = await rlm.areplay(recording)
        seconds = time.perf_counter() - started
    if report.differs or report.error is not None:
        raise RuntimeError(f"the replay differs: {report.comparison.counts}, {report.error}")
    return seconds


async def _asked(settings: Settings) -> float:
    """Run it in a fresh container, and return how long that took; keep no recording."""
    async with RLM(settings=replace(settings, keep_recording=False)) as rlm:
        started = time.perf_counter()
        await rlm.acompletion("Go on.", "x")
        return time.perf_counter() - started
