"""Attacks run in real sessions: the fixtures are those of the container tests, `nothing_left` among them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from rlm_kernel.kernel import CellResult
from rlm_kernel.session import Session
from tests.docker.conftest import (
    carrier,
    engine,
    events,
    image,
    nothing_left,
    open_test_session,
    runtime,
    sandbox_spec,
)

__all__ = [
    "carrier",
    "engine",
    "events",
    "image",
    "nothing_left",
    "open_test_session",
    "runtime",
    "sandbox_spec",
]

PROGRAMS = Path(__file__).parent / "programs"


def program(name: str) -> str:
    """Return the source of one of the programs that run inside the container."""
    return (PROGRAMS / f"{name}.py").read_text()


async def run(session: Session, code: str) -> CellResult:
    """Run one cell."""
    return await session.run_cell(code, turn=1)


def printed(result: CellResult) -> str:
    """Return what a cell that ended well printed."""
    assert result.status == "ok", result
    return "".join(str(output["text"]) for output in result.outputs if output["output_type"] == "stream")


async def assert_usable(session: Session) -> None:
    """Run two cells that need all of a session: its kernel, its context and its outputs."""
    assert printed(await run(session, "usable = len(context); print(context)")) == "context\n"
    assert printed(await run(session, "print(usable)")) == "7\n"


def memory() -> int:
    """Return the bytes of memory that this process has now."""
    return _status("VmRSS")


@asynccontextmanager
async def memory_bound(limit: int) -> AsyncIterator[Callable[[], int]]:
    """Fail when this process, at its highest point in the block, has over `limit` bytes more than at its start.

    The block is given a function that returns the growth so far.
    """
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = memory()
    yield lambda: _status("VmHWM") - before
    await asyncio.sleep(0)
    grown = _status("VmHWM") - before
    assert grown <= limit, f"the host grew by {grown / 2**20:.0f} MiB"


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
