"""Measure speed and memory, each against its baseline in the same run. Nothing here passes or fails."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from rich.console import Console

from benchmarks import (
    budget,
    cell,
    cold_start,
    context,
    idle,
    interrupts,
    large,
    memory,
    pool,
    recording,
    recursion,
    replay,
    runtimes,
    subcalls,
    transports,
)
from benchmarks.harness import Row, show
from benchmarks.stage import Stage, open_stage

BENCHMARKS: dict[str, Callable[[Stage], Awaitable[list[Row]]]] = {
    "cold_start": cold_start.rows,
    "pool": pool.rows,
    "recursion": recursion.rows,
    "cell": cell.rows,
    "llm_query": subcalls.one_rows,
    "batch": subcalls.batch_rows,
    "budget": budget.rows,
    "context": context.rows,
    "memory": memory.rows,
    "idle": idle.rows,
    "interrupts": interrupts.rows,
    "transports": transports.rows,
    "runtimes": runtimes.rows,
    "recording": recording.rows,
    "large": large.rows,
    "replay": replay.rows,
}
LEAST_WIDTH = 150


async def measure(names: list[str], console: Console) -> dict[str, list[Row]]:
    """Run the named benchmarks one after another, showing each table as soon as it is there."""
    taken = {}
    async with open_stage() as stage:
        for name in names:
            taken[name] = await BENCHMARKS[name](stage)
            show(name, taken[name], console)
    return taken


def main() -> None:
    """Print the tables, and write them as JSON where asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure: {', '.join(BENCHMARKS)} (all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too, in seconds and bytes")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    console = Console()
    console.width = max(console.width, LEAST_WIDTH)
    machine = f"Python {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} CPUs"
    console.print(f"{machine}, load {os.getloadavg()[0]:.1f} of others at the start\n")
    try:
        taken = asyncio.run(measure(options.names or list(BENCHMARKS), console))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    if options.json:
        rows = {name: [row.as_json() for row in rows] for name, rows in taken.items()}
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode({"machine": machine, "benchmarks": rows})))


if __name__ == "__main__":
    main()
