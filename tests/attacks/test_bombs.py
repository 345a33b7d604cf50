"""Code that takes all it can get of one thing: its session recovers or ends typed, its neighbour notices nothing."""

from __future__ import annotations

import asyncio
import time

import pytest

from rlm_kernel.errors import SandboxError
from rlm_kernel.session import Session
from tests.attacks.conftest import assert_usable, memory_bound, printed, run
from tests.docker.conftest import MIB, OpenSession

DEEP = "os.chdir('/tmp')\nfor _ in range(2000): os.mkdir('d'); os.chdir('d')"
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
    "files in memory": f"""
import os
{DEEP}
try:
    with open("full", "wb") as file:
        while True: file.write(bytes(2**20))
except OSError: pass
x = []
while True: x.append(bytearray(2**22))
""",
    "shared memory": """
import ctypes
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
while True:
    memory = libc.shmat(libc.shmget(0, 2**26, 0o1600), None, 0)
    ctypes.memset(memory, 1, 2**26)
    libc.shmdt(ctypes.c_void_p(memory))
""",
    "empty files": "for number in range(10**9): open(f'/dev/shm/{number}', 'w').close()",
    "zombies": "import os\nwhile True:\n    try: os.fork() or os._exit(0)\n    except OSError: pass",
    "search": "import re\nre.match('(a|a)+$', 'a' * 60 + 'b')",
    "inodes": """
for number in range(10**9):
    try: open(f"/run/rlm-guest/{number}", "w")
    except OSError: pass
""",
    "watches": "import ctypes\nlibc = ctypes.CDLL(None)\nwhile True: libc.inotify_init()",
}


LONG = {"files", "forks that leave", "memory, many", "pipes", "inodes", "watches", "empty files", "zombies"}

TYPED = [
    ("/tmp", "open('/tmp/full', 'wb').write(bytes(2**26))", "OSError", "No space left on device"),
    ("/dev/shm", "open('/dev/shm/full', 'wb').write(bytes(2**26))", "OSError", "No space left on device"),
    ("private", "open('/run/rlm-guest/full', 'wb').write(bytes(2**26))", "OSError", "No space left on device"),
    ("root", "open('/full', 'wb')", "OSError", "Read-only file system"),
    ("files", "[open('/dev/null') for _ in range(10**5)]", "OSError", "Too many open files"),
    ("sockets", "import socket\n[socket.socketpair() for _ in range(10**5)]", "OSError", "Too many open files"),
    (
        "threads",
        "import threading\nstop = threading.Event()\ntry:\n"
        "    for _ in range(10**5): threading.Thread(target=stop.wait, daemon=True).start()\nfinally: stop.set()",
        "RuntimeError",
        "can't start new thread",
    ),
    (
        "zombies",
        "import os\nchildren = []\ntry:\n    for _ in range(10**5): children.append(os.fork() or os._exit(0))\n"
        "finally:\n    for pid in children: os.waitpid(pid, 0)",
        "BlockingIOError",
        "temporarily unavailable",
    ),
    ("recursion", "def f(): f()\nf()", "RecursionError", "maximum recursion depth"),
    ("address space", "bytearray(2**60)", "MemoryError", None),
    ("digits", "str(10**10**5)", "ValueError", "integer string conversion"),
]


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


async def test_running_out_of_a_thing_is_an_error_of_the_cell(open_test_session: OpenSession) -> None:
    """Where the system refuses more of a thing, the cell has an error that says so, and the session lives on."""
    async with open_test_session() as session:
        assert (await run(session, "kept = 1")).status == "ok"
        for name, code, ename, says in TYPED:
            result = await run(session, code)
            assert (result.status, result.ename) == ("error", ename), (name, result)
            assert says is None or says in str(result.evalue), name
            assert printed(await run(session, "print(kept)")) == "1\n"
            await assert_usable(session)
        result = await run(session, "import os; os._exit(1)")
        assert result.status == "kernel_died"
        await assert_usable(session)


async def test_a_childs_death_for_want_of_memory_is_told(open_test_session: OpenSession) -> None:
    """When the system kills a process that a cell started, and not its kernel, the cell's output says so."""
    hog = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'x = [bytearray(2**22) for _ in range(999)]'])"
    async with open_test_session() as session:
        assert "1 processes were killed: the memory of the container was used up" in printed(await run(session, hog))
        assert printed(await run(session, "print('next')")) == "next\n"
        assert (await run(session, "import os; os._exit(1)")).ename == "KernelDied"


async def test_memory_that_files_hold_is_got_back(open_test_session: OpenSession) -> None:
    """A kernel that dies for want of memory, most of it in files, is followed by one that has room."""
    async with open_test_session(tmp_size=400 * MIB) as session:
        for _ in range(2):
            result = await run(session, BOMBS["files in memory"])
            assert (result.status, result.ename) == ("kernel_died", "OutOfMemory")
            assert (await run(session, "pass")).files_lost
            await assert_usable(session)
        assert printed(await run(session, "import os; print(os.listdir('/tmp'))")) == "[]\n"
        await run(session, "open('/tmp/small', 'w').write('x')")
        assert (await run(session, "import os; os._exit(1)")).status == "kernel_died"
        assert printed(await run(session, "print(open('/tmp/small').read())")) == "x\n"
