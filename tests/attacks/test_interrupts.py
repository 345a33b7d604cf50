"""Cells that fight their end: forged signs, forged orders, and a kernel turned against its own guest."""

from __future__ import annotations

import time

from rlm_kernel.events import CellInterrupted, KernelReady, SandboxStarted, SubcallRequested
from rlm_kernel.sandbox.spec import Carrier
from tests.attacks.conftest import assert_usable, printed, run
from tests.docker.conftest import OpenSession
from tests.support.fakes import FakeModel
from tests.support.sinks import Events

LIMIT = 0.5
ALLOWED = LIMIT + 2 + 1

FORGED_END = """
kernel = get_ipython().kernel
parent = kernel.get_parent()
reply = {"status": "ok", "execution_count": 1, "user_expressions": {}}
kernel.session.send(kernel.iopub_socket, "status", {"execution_state": "idle"}, parent, ident=kernel._topic("status"))
way = kernel.shell_channel_thread.manager.get_subshell_to_shell_channel_socket(None)
kernel.session.send(way, "execute_reply", reply, parent, ident=kernel._parent_ident["shell"])
"""
FORGED_ORDERS = """
import json
from rlm_guest import questions, wire
link = questions._host._send.__self__.link
for message in (
    {"type": "restarted", "generation": 9},
    {"type": "kernel_ready", "generation": 9, "context_type": "str", "context_length": 1},
    {"type": "kernel_died", "generation": 1, "code": 0},
    {"type": "pong", "n": 1},
    {"type": "interrupt"},
    {"type": "restart"},
):
    link.send(wire.Channel.CONTROL, json.dumps(message).encode())
"""
TURNED = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
for name in ("cancel", "of", "_raise"):
    setattr(type(sys.modules["rlm_guest.cancel"].CELL), name, lambda *args: None)
while True: pass
"""


async def test_a_forged_end(open_test_session: OpenSession, carrier: Carrier) -> None:
    """A cell that says it has ended and goes on holds up the next one until that one's limit, and no longer."""
    async with open_test_session(carrier=carrier, cell_timeout=LIMIT) as session:
        assert (await run(session, f"{FORGED_END}\nimport time; time.sleep(60)")).status == "ok"
        started = time.monotonic()
        result = await run(session, "print('mine')")
        assert time.monotonic() - started < ALLOWED
        assert result.status == "timed_out"
        await assert_usable(session)


async def test_forged_orders(open_test_session: OpenSession, carrier: Carrier, events: Events) -> None:
    """What only host or relay may say is nothing when the kernel says it: no restart, no end, no new kernel."""
    async with open_test_session(carrier=carrier) as session:
        assert (await run(session, f"mine = 1\n{FORGED_ORDERS}")).status == "ok"
        assert printed(await run(session, "print(mine)")) == "1\n"
    assert [event.generation for event in events.of(KernelReady)] == [1]
    assert events.of(CellInterrupted) == []


async def test_the_kernels_own_cancel_taken_away(open_test_session: OpenSession, events: Events) -> None:
    """The step in the kernel is a convenience; a kernel without it is ended by the relay, in time."""
    async with open_test_session(cell_timeout=LIMIT) as session:
        started = time.monotonic()
        result = await run(session, TURNED)
        assert time.monotonic() - started < ALLOWED
        assert result.status == "timed_out"
        await assert_usable(session)
    assert [event.step for event in events.of(CellInterrupted)] == ["sigint", "cancel", "restart"]
    assert len(events.of(SandboxStarted)) == 1


async def test_a_rebuild_never_pays(open_test_session: OpenSession, carrier: Carrier, events: Events) -> None:
    """A cell that asks for other things in its second run, from threads and against its interrupt, reaches no model."""
    model = FakeModel(["one"])
    code = """
import os, threading
if not os.path.exists("/tmp/ran"):
    open("/tmp/ran", "w").close()
    llm_query("once")
else:
    def more():
        while True:
            try: llm_query("more")
            except BaseException: pass
    for _ in range(20): threading.Thread(target=more, daemon=True).start()
    more()
"""
    async with open_test_session(carrier=carrier, models={None: model}, rebuild=True) as session:
        assert (await run(session, code)).status == "ok"
        result = await run(session, "import os; os._exit(1)")
        assert "asked a sub-model" in str(result.not_rebuilt)
        await assert_usable(session)
    assert len(model.requests) == len(events.of(SubcallRequested)) == 1
