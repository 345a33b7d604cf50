"""What a large `context` adds to a session's start and to its cells, against reading the file in plain Python."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from benchmarks.harness import Measure, Row, Samples, in_turn
from benchmarks.stage import Stage, figures, timed_cell
from rlm_kernel.sandbox.contexts import StoredContext
from rlm_kernel.sandbox.spec import GUEST_SHARED, Carrier

SIZE = 40_000_000
ROUNDS, CELL_ROUNDS = 15, 300
TARGET, CELL_TARGET = 2.0, 1.0

READ = """
import sys, time
started = time.perf_counter()
text = open(sys.argv[1], encoding="utf-8", newline="").read()
print(time.perf_counter() - started)
"""
LOAD = f"""
import time
from rlm_guest.context import load_context
taken = []
for _ in range({ROUNDS}):
    started = time.perf_counter()
    text = load_context(dict(kind="str", path="{GUEST_SHARED}/context", index_path="", size={{size}}))
    taken.append(time.perf_counter() - started)
    del text
FINAL(taken)
"""


def write_text(path: Path, end: str = "") -> Path:
    """Write `SIZE` bytes of lines, the last of which ends with `end`."""
    line = "The quick brown fox jumps over the lazy dog, and 0123456789 more of them follow.\n"
    text = (line * (SIZE // len(line) + 1))[: SIZE - len(end.encode())] + end
    path.write_text(text, encoding="utf-8", newline="")
    return path


async def rows(stage: Stage) -> list[Row]:
    """Measure loads of ASCII and of text with one emoji at its end, over each carrier, then cells."""
    files = {
        "ASCII": write_text(stage.folder / "ascii.txt"),
        "one emoji": write_text(stage.folder / "emoji.txt", "\N{ROCKET}"),
    }
    first = {name: _seconds(partial(stage.store.put_path, path)) for name, path in files.items()}
    stored = {name: stage.store.put_path(path) for name, path in files.items()}
    added = await _added_rows(stage, files, stored)
    puts = [
        Row(name=f"first put into the store, hashed and checked, {name}", value=Samples((seconds,)))
        for name, seconds in first.items()
    ]
    return [*added, *puts, *await _load_rows(stage, files, stored), *await _cell_rows(stage, stored["ASCII"])]


async def _added_rows(stage: Stage, files: dict[str, Path], stored: dict[str, StoredContext]) -> list[Row]:
    """Return what a context adds: a session's start with it, less one without, plus the second put on the host."""
    main = stage.carriers[0]
    measures: dict[str, Measure] = {f"{carrier} without": partial(_start, stage, carrier) for carrier in stage.carriers}
    for name, path in files.items():
        measures |= {f"read {name}": partial(_read, path), f"put {name}": partial(_put, stage, path)}
        for carrier in stage.carriers:
            measures[f"{carrier} {name}"] = partial(_start, stage, carrier, stored[name])
    taken = await in_turn(measures, ROUNDS)
    return [
        Row(
            name=f"40 MB context, {name}, added to the start, {carrier}",
            value=taken[f"{carrier} {name}"] - taken[f"{carrier} without"] + taken[f"put {name}"],
            baseline=taken[f"read {name}"],
            against="plain read",
            target=TARGET if (carrier, name) == (main, "ASCII") else None,
        )
        for name in files
        for carrier in stage.carriers
    ] + [Row(name="the second put alone, ASCII", value=taken["put ASCII"])]


async def _load_rows(stage: Stage, files: dict[str, Path], stored: dict[str, StoredContext]) -> list[Row]:
    """Return the load alone, as the guest does it, repeated inside a cell: less noisy than a difference of starts."""
    if "socket" not in stage.carriers:
        return []
    rows = []
    for name, path in files.items():
        async with stage.session("socket", stored[name]) as session:
            loads = await figures(session, LOAD.format(size=SIZE))
        reads = Samples(tuple([await _read(path) for _ in range(ROUNDS)]))
        rows.append(
            Row(
                name=f"the load alone, in the guest, {name}",
                value=loads,
                baseline=reads,
                against="plain read",
                target=TARGET if name == "ASCII" else None,
            )
        )
    return rows


async def _cell_rows(stage: Stage, stored: StoredContext) -> list[Row]:
    async with AsyncExitStack() as stack:
        with_it = await stack.enter_async_context(stage.session(stage.carriers[0], stored))
        without = await stack.enter_async_context(stage.session(stage.carriers[0]))
        cell = "x = 1"
        taken = await in_turn(
            {"with": partial(timed_cell, with_it, cell), "without": partial(timed_cell, without, cell)},
            CELL_ROUNDS,
            warm_up=20,
        )
    return [
        Row(
            name="trivial cell with the context alive",
            value=taken["with"],
            baseline=taken["without"],
            against="without it",
            target=CELL_TARGET,
        )
    ]


async def _start(stage: Stage, carrier: Carrier, context: StoredContext | None = None) -> float:
    started = time.perf_counter()
    async with stage.session(carrier, context) as session:
        await timed_cell(session, "n = len(context)")
        return time.perf_counter() - started


async def _put(stage: Stage, path: Path) -> float:
    return _seconds(partial(stage.store.put_path, path))


async def _read(path: Path) -> float:
    return _read_seconds(path)


def _read_seconds(path: Path) -> float:
    """Read the file in a fresh Python; the clock is inside it."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", READ, path], check=True, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    return float(done.stdout)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
