"""The relay, PID 1 of the container, against code of the same user, and the doors that lead past it."""

from __future__ import annotations

import json

import pytest

from rlm_kernel.errors import SandboxError
from rlm_kernel.events import KernelLost
from rlm_kernel.sandbox.spec import Carrier
from tests.attacks.conftest import assert_usable, printed, program, run
from tests.docker.conftest import OpenSession
from tests.support.sinks import Events


async def test_the_relay_is_out_of_reach(open_test_session: OpenSession, carrier: Carrier, events: Events) -> None:
    """Memory, descriptors and environment of the relay stay closed, signals don't reach it, no second connection
    gets to the host, and the shared folder can't be changed."""
    async with open_test_session(carrier=carrier) as session:
        found = json.loads(printed(await run(session, program("relay"))))
        assert found == {
            "files": [],
            "ptrace": [False, False],
            "memory": False,
            "descriptors": False,
            "connect": False,
            "shared": False,
            "mounted": ["context"] if carrier == "socket" else [],
        }
        await assert_usable(session)
        assert (await run(session, "import os; os._exit(0)")).status == "kernel_died"
        await assert_usable(session)
    assert len(events.of(KernelLost)) == 1


@pytest.mark.parametrize(
    "limit",
    [
        "RLIMIT_NOFILE, (0, 0)",
        "RLIMIT_AS, (1, 1)",
        "RLIMIT_NPROC, (0, 0)",
        "RLIMIT_FSIZE, (0, 0)",
        "RLIMIT_CPU, (0, 1)",
        "RLIMIT_STACK, (0, 0)",
    ],
)
async def test_limits_set_on_the_relay(open_test_session: OpenSession, limit: str) -> None:
    """The same user may lower the relay's limits; that costs at most the session, with a typed error, at once."""
    async with open_test_session(cell_timeout=5) as session:
        try:
            await run(session, f"import resource as r, os; r.prlimit(1, r.{limit})")
            await run(session, "import os; os._exit(0)")
            await assert_usable(session)
        except SandboxError:
            pass


@pytest.mark.parametrize(
    "code",
    [
        "import os; os.closerange(3, 512)",
        "import os; os.closerange(0, 512)",
        "import os\nnull = os.open('/dev/null', 2)\nfor fd in range(512): os.dup2(null, fd)",
        "import os\nfor fd in range(3, 40):\n    try: os.dup2(1, fd)\n    except OSError: pass",
    ],
)
async def test_the_kernels_descriptors_taken_away(open_test_session: OpenSession, code: str) -> None:
    """A kernel without its sockets is replaced, at the latest at its time limit, and the session goes on."""
    async with open_test_session(cell_timeout=2) as session:
        results = [await run(session, code), await run(session, "pass")]
        assert {result.status for result in results} & {"kernel_died", "timed_out"}, results
        await assert_usable(session)


async def test_everything_killed_but_the_own_process(open_test_session: OpenSession, carrier: Carrier) -> None:
    """A child that kills all it can, stops the kernel, and lives on in a session of its own, loses to the relay."""
    async with open_test_session(carrier=carrier, cell_timeout=1) as session:
        assert (await run(session, "import os; os.kill(-1, 9)")).ename == "ProcessLookupError"
        code = """
import os, signal, time
kernel = os.getpid()
if os.fork() == 0:
    os.setsid()
    for number in range(1, 32):
        try: signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError): pass
    os.kill(kernel, signal.SIGSTOP)
    while True:
        open("/tmp/alive", "w").write(str(time.monotonic()))
        time.sleep(0.05)
sum(range(10**12))
"""
        assert (await run(session, code)).status == "timed_out"
        code = "import time\nread = open('/tmp/alive').read\nbefore = read()\ntime.sleep(0.3)\n"
        code += "print(open('/tmp/alive').read() == before)"
        assert printed(await run(session, code)) == "True\n"
        await assert_usable(session)


async def test_a_child_outlives_its_cell(open_test_session: OpenSession) -> None:
    """A child that goes on writing after its cell, and holds every inherited descriptor, changes no later result."""
    async with open_test_session() as session:
        await run(
            session, "import os, time\nif os.fork() == 0:\n    os.setsid()\n    while True: os.write(1, b'x' * 9999)"
        )
        for _ in range(2):
            result = await run(session, "print('mine')")
            assert "mine\n" in printed(result)
        await run(session, "os.kill(-1, 9)")
        await assert_usable(session)
