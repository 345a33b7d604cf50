"""Code that takes all it can get of one thing: its session recovers or ends typed, its neighbour notices nothing."""

from __future__ import annotations

import asyncio
import time

import pytest

from rlm_kernel.errors import SandboxError
from rlm_kernel.session import Session
from tests.attacks.conftest import assert_usable, memory_bound, printed, run
from tests.docker.conftest import MIB, OpenSession

BOMBS = {
    "forks": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "forks that leave": "import os\nwhile True:\n    try: os.fork() or os.setsid()\n    except OSError: pass",
    "threads": """
import threading
stop = threading.Event()
while True:
    try: threading.Thread(target=stop.wait, daemon=True).start()
    except RuntimeError: pass
""",
    "memory": "x = []\nwhile True: x.append(bytearray(2**22))",
    "memory, many": """
import os
while True:
    try:
        if os.fork() == 0:
            open("/proc/self/oom_score_adj", "w").write("0")
            x = bytearray(2**25)
            while True: pass
    except (OSError, MemoryError): pass
""",
    "files": "import os\nopened = []\nwhile True:\n    try: opened.append(open('/dev/null'))\n    except OSError: pass",
    "pipes": "import os\nwhile True:\n    try: os.write(os.pipe()[1], bytes(65536))\n    except OSError: pass",
    "tmpfs": """
for folder in ("/tmp", "/dev/shm", "/run/rlm-guest"):
    try:
        with open(folder + "/full", "wb") as file:
            while True: file.write(bytes(2**20))
    except OSError: pass
while True: pass
""",
    "inodes": """
for number in range(10**9):
    try: open(f"/run/rlm-guest/{number}", "w")
    except OSError: pass
""",
    "watches": "import ctypes\nlibc = ctypes.CDLL(None)\nwhile True: libc.inotify_init()",
}


LONG = {"files", "forks that leave", "memory, many", "pipes", "inodes", "watches"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.soak] if name in LONG else []) for name in BOMBS]
)
async def test_a_bomb(open_test_session: OpenSession, name: str) -> None:
    """A bomb ends with its cell's time or memory; the session works then or has ended typed; the other one is fine."""
    slowest = 0.0

    async def watch(other: Session) -> None:
        nonlocal slowest
        while True:
            started = time.monotonic()
            assert printed(await run(other, "print(llm := 1)")) == "1\n"
            slowest = max(slowest, time.monotonic() - started)
            await asyncio.sleep(0.1)

    async with memory_bound(100 * MIB), open_test_session() as other:
        watching = asyncio.ensure_future(watch(other))
        try:
            async with open_test_session(cell_timeout=1.5, cpus=0.8) as session:
                result = await run(session, BOMBS[name])
                assert result.status in ("timed_out", "kernel_died", "error"), result
                await assert_usable(session)
        except SandboxError:
            may_end = name == "memory, many"
            assert may_end
        assert not watching.done(), watching.result()
        watching.cancel()
        await asyncio.wait([watching])
        await assert_usable(other)
    assert slowest < 5
