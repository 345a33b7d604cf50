"""How much the host's process grows while it stores a large context and opens sessions on it."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from pathlib import Path

import msgspec

from benchmarks.context import SIZE, write_text
from benchmarks.harness import Row, Samples
from benchmarks.stage import Stage, open_stage, timed_cell


async def rows(stage: Stage) -> list[Row]:
    """Measure in a process of its own, which holds nothing left from other benchmarks."""
    path = write_text(stage.folder / "memory.txt")
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.memory", str(path), stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    try:
        out, _ = await child.communicate()
    except asyncio.CancelledError:
        child.send_signal(signal.SIGINT)
        await child.wait()
        raise
    if child.returncode:
        raise RuntimeError(f"the process that measures memory ended with status {child.returncode}")
    return [
        Row(
            name=f"host's memory, growth at its peak, {name}",
            value=Samples((grown,)),
            unit="MiB",
            baseline=Samples((SIZE,)),
            against="the context",
        )
        for name, grown in msgspec.json.decode(out, type=dict[str, int]).items()
    ]


async def grown_by(path: Path) -> dict[str, int]:
    """Return how far the peak of memory rose, in bytes, in each step of a large context's way."""
    grown = {}
    async with open_stage() as stage:
        for carrier in stage.carriers:
            async with stage.session(carrier) as session:
                await timed_cell(session, "x = 1")
        before = _reset_peak()
        stored = stage.store.put_path(path)
        grown["first put into the store"] = memory_of_this("VmHWM") - before
        for carrier in stage.carriers:
            before = _reset_peak()
            async with stage.session(carrier, stored) as session:
                await timed_cell(session, "n = len(context)")
            grown[f"session, {carrier}"] = memory_of_this("VmHWM") - before
    return grown


def _reset_peak() -> int:
    """Let the peak be counted from here on; return the memory in use now, in bytes."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return memory_of_this("VmRSS")


def memory_of_this(name: str) -> int:
    """Return what the kernel counts of this process under `name`, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    try:
        grown = asyncio.run(grown_by(Path(sys.argv[1])))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    sys.stdout.buffer.write(msgspec.json.encode(grown))
