"""Floods of output, as large as they get: every byte is shown or marked, and the host stays small."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from rlm_kernel.kernel import CellResult
from rlm_kernel.sandbox.spec import Carrier
from tests.docker.conftest import MIB, OpenSession

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

SIZE = 10 * 1000**3
PATCH = "from rlm_guest import output\noutput.CutStream.write = output.OutStream.write\nimport sys"
WAYS = {
    "print": ("text = 'x' * 999_999\nfor _ in range(10_000): print(text)", SIZE),
    "descriptor": ("import os\ndata, left = b'x' * 10**6, 10**10\nwhile left: left -= os.write(1, data[:left])", SIZE),
    "children": (
        "import subprocess\nps = [subprocess.Popen(['head', '-c', '1000000000', '/dev/zero']) for _ in range(3)]\n"
        "for p in ps: p.wait()",
        3 * 1000**3,
    ),
    "lines": ("for n in range(2_000_000): print(f'{n:07}', flush=True)", 16_000_000),
    "one text": ("print('x' * 500_000_000)", 500_000_001),
    "past the first cut": ("for _ in range(1000): sys.stdout.write('x' * 10**6); sys.stdout.flush()", 1000**3),
}
DISPLAYS = 1_000_000


def peak() -> int:
    """Return the most memory that this process has had since `forget_peak`, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def forget_peak() -> None:
    """Let the peak be what is held now."""
    Path("/proc/self/clear_refs").write_text("5")


def kept(result: CellResult) -> int:
    """Return how many characters of text a cell's outputs have, without the marks."""
    text = "".join(str(output["text"]) for output in result.outputs if output["output_type"] == "stream")
    return len(re.sub(r"\n\[… [^\]]* …\]\n", "", text))


@pytest.mark.parametrize(
    ("way", "carrier"),
    [
        ("print", "socket"),
        ("descriptor", "socket"),
        ("descriptor", "attach"),
        ("children", "socket"),
        ("lines", "socket"),
        ("one text", "attach"),
        ("past the first cut", "socket"),
    ],
)
async def test_a_flood_is_cut_and_the_host_stays_flat(
    open_test_session: OpenSession, way: str, carrier: Carrier
) -> None:
    """A cell that writes for as long as it can ends well, every byte is shown or counted, and the host stays small."""
    code, size = WAYS[way]
    async with open_test_session(carrier=carrier, cell_timeout=300, memory=1024 * MIB) as session:
        await session.run_cell("print('x' * 10_000_000)" if way != "past the first cut" else PATCH, turn=1)
        forget_peak()
        before, started = peak(), time.monotonic()
        result = await session.run_cell(code, turn=1)
        seconds, grown = time.monotonic() - started, peak() - before
        print(f"{way} over {carrier}: {seconds:.1f} s, {result.cut} bytes cut, the host grew by {grown / MIB:.1f} MiB")
        assert result.status == "ok"
        exact = 0 if way != "past the first cut" else size // 1000  # the relay counts whole messages
        assert size <= kept(result) + result.cut <= size + exact
        assert grown <= 64 * MIB
        assert (await session.run_cell("FINAL('here')", turn=1)).final is not None


async def test_a_million_displays(open_test_session: OpenSession) -> None:
    """A million displays are shown or counted, and the host stays small."""
    async with open_test_session(cell_timeout=400) as session:
        forget_peak()
        before, started = peak(), time.monotonic()
        code = f"for n in range({DISPLAYS}): display({{'text/plain': 'x'}}, raw=True)"
        result = await session.run_cell(code, turn=1)
        grown = peak() - before
        print(f"{DISPLAYS} displays: {time.monotonic() - started:.1f} s, the host's peak grew by {grown / MIB:.1f} MiB")
        assert result.status == "ok"
        shown = sum(output["output_type"] == "display_data" for output in result.outputs)
        assert f"{DISPLAYS - shown} displays cut" in str(result.outputs[-1])
        assert grown <= 64 * MIB
