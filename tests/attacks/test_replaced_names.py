"""Cells that replace what they were given, or what runs them."""

from __future__ import annotations

import pytest

from tests.attacks.conftest import assert_usable, printed, run
from tests.docker.conftest import OpenSession
from tests.support.fakes import FakeModel

HARMLESS = [
    "llm_query = FINAL = SHOW_VARS = None",
    "import sys; sys.stdout = sys.stderr = open('/dev/null', 'w')",
    "import sys; sys.stdout = None",
    "import builtins; builtins.print = builtins.len = None",
    "import builtins; builtins.__import__ = None",
    "import sys; sys.displayhook = sys.excepthook = None",
    "ip = get_ipython(); ip.display_pub = ip.display_formatter = None; 1",
    "ip = get_ipython(); ip.showtraceback = ip._showtraceback = None; 1 / 0",
    "import rlm_guest.names as n; n.cell_end = lambda: 1 / 0",
    "import rlm_guest.names as n; n._kernel.variables = None",
    "import sys; sys.modules.clear()",
    "import json; json.dumps = json.loads = None",
    "import os; os.write = os.read = None",
    "import threading; threading.Thread.start = None",
    "import gc\nfor o in gc.get_objects():\n    if isinstance(o, dict) and o is not globals(): o.clear()",
    "get_ipython().execution_count = 'many'",
    "import sys; sys.setrecursionlimit(50)",
    "import sys; sys.settrace(lambda *a: 1 / 0)",
    "globals().clear()",
    "import signal; signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)",
]


QUICK = {HARMLESS[number] for number in (0, 3, 8, 9, 19)}

DUMB = [
    "ip = get_ipython(); ip.events.callbacks.clear()",
    "ip = get_ipython(); ip.run_cell = ip.run_cell_async = None",
    "get_ipython().kernel.do_execute = None",
]


@pytest.mark.parametrize(
    "code", [pytest.param(code, marks=[] if code in QUICK else [pytest.mark.soak]) for code in HARMLESS]
)
async def test_what_a_cell_replaces(open_test_session: OpenSession, code: str) -> None:
    """After a cell that breaks its own kernel each cell still has a result, and a new kernel is whole."""
    async with open_test_session(cell_timeout=1, models={None: FakeModel(["answer"])}) as session:
        for cell in (code, "print('x')", "FINAL(1)"):
            assert (await run(session, cell)).status in ("ok", "error", "timed_out", "kernel_died")
        for _ in range(3):
            result = await run(session, "import os; os._exit(0)")
            if result.status == "kernel_died":
                break
            result = await run(session, "while True: pass")
            if result.lost is not None:
                break
        await assert_usable(session)
        assert printed(await run(session, "print(llm_query('x'))")) == "answer\n"


@pytest.mark.parametrize("code", [DUMB[0], *(pytest.param(code, marks=pytest.mark.soak) for code in DUMB[1:])])
async def test_a_kernel_that_never_replies_again(open_test_session: OpenSession, code: str) -> None:
    """A kernel whose cells end without a reply is replaced after a few of them."""
    async with open_test_session(cell_timeout=3) as session:
        for cell in (code, "1", "2"):
            assert (await run(session, cell)).status in ("ok", "error", "timed_out", "kernel_died")
        await assert_usable(session)
