"""Ten gigabytes of output."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from rlm_kernel.sandbox.spec import Carrier
from tests.docker.conftest import MIB, OpenSession

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

SIZE = 10 * 1000**3
WAYS = {
    "print": "text = 'x' * 999_999\nfor _ in range(10_000): print(text)",
    "descriptor": "import os\ndata, left = b'x' * 1_000_000, 10**10\nwhile left: left -= os.write(1, data[:left])",
}


def peak() -> int:
    """Return the most memory that this process has had since `forget_peak`, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def forget_peak() -> None:
    """Let the peak be what is held now."""
    Path("/proc/self/clear_refs").write_text("5")


@pytest.mark.parametrize(("way", "carrier"), [("print", "socket"), ("descriptor", "socket"), ("descriptor", "attach")])
async def test_flood_is_cut_and_the_host_stays_flat(open_test_session: OpenSession, way: str, carrier: Carrier) -> None:
    """A cell that writes 10 GB ends well, what was left out is counted, and the host's memory stays within bounds."""
    async with open_test_session(carrier=carrier, cell_timeout=300) as session:
        await session.run_cell("print('x' * 10_000_000)", turn=1)
        forget_peak()
        before, started = peak(), time.monotonic()
        result = await session.run_cell(WAYS[way], turn=1)
        seconds, grown = time.monotonic() - started, peak() - before
        print(f"{way} over {carrier}: {seconds:.1f} s, {result.cut} bytes cut, the host's peak grew by {grown} bytes")
        kept = sum(len(str(output.get("text"))) for output in result.outputs)
        assert result.status == "ok"
        assert 0.99 * SIZE <= result.cut + kept <= 1.01 * SIZE
        assert grown <= 64 * MIB
        assert (await session.run_cell("FINAL('here')", turn=1)).final is not None
