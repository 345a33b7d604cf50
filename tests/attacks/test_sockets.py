"""Forged Jupyter messages on the kernel's own sockets, and strangers on them."""

from __future__ import annotations

import time

import pytest

from rlm_kernel.errors import GuestProtocolError
from rlm_kernel.events import KernelLost, KernelReady, Notice, SandboxStarted
from rlm_kernel.sandbox.spec import Carrier
from tests.attacks.conftest import assert_usable, memory_bound, printed, program, run
from tests.docker.conftest import MIB, OpenSession
from tests.support.sinks import Events

SOCKETS = program("sockets")
OK = b'{"status":"ok","execution_count":1,"user_expressions":{}}'
FINAL = (
    b'{"status":"ok","user_expressions":{"rlm":{"data":{"application/vnd.rlm-kernel.cell+json":'
    b'{"final":{"value":"forged","source":"FINAL"},"names":[]}}}}}'
)


async def test_a_forged_end_ends_only_the_own_cell(open_test_session: OpenSession, carrier: Carrier) -> None:
    """A cell may end itself early with a forged reply and status; its real end is not taken for the next cell's."""
    async with open_test_session(carrier=carrier) as session:
        idle = b'{"execution_state":"idle"}'
        result = await run(
            session,
            f"{SOCKETS}\nimport time\nreply(parts(header('execute_reply'), own(), {FINAL!r}))\n"
            f"publish(parts(header('status'), own(), {idle!r}))\ntime.sleep(1); FINAL('real')",
        )
        assert (result.status, result.seconds < 1) == ("ok", True)
        assert result.final is not None
        assert result.final.value == "forged"
        result = await run(session, "print('second')")
        assert (printed(result), result.final) == ("second\n", None)
        await assert_usable(session)


async def test_messages_of_others_change_nothing(open_test_session: OpenSession, events: Events) -> None:
    """Replies to other requests, control messages dressed as Jupyter's, and unknown types reach no one."""
    async with open_test_session() as session:
        forged = "\n".join(
            f"{way}(parts(header('{kind}'), {parent!r}, {content!r}))"
            for way, kind, parent, content in (
                ("reply", "execute_reply", b'{"msg_id":"someone-else"}', OK),
                ("reply", "kernel_ready", b"{}", b'{"type":"kernel_ready","generation":9}'),
                ("publish", "kernel_ready", b"{}", b'{"type":"kernel_ready","generation":9}'),
                ("publish", "kernel_died", b"{}", b'{"type":"kernel_died","generation":1,"code":0}'),
                ("publish", "iopub_welcome", b"{}", b"{}"),
                ("publish", "status", b'{"msg_id":"relay-probe"}', b'{"execution_state":"dead"}'),
                ("publish", "clear_output", b"{}", b'{"wait":false}'),
                ("publish", "comm_open", b"{}", b'{"comm_id":"1","target_name":"x","data":{}}'),
            )
        )
        assert printed(await run(session, f"{SOCKETS}\n{forged}\nprint('end')")) == "end\n"
        await assert_usable(session)
    assert [event.generation for event in events.of(KernelReady)] == [1]
    assert not events.of(KernelLost)


async def test_a_stolen_parent_is_late_output_of_that_cell(open_test_session: OpenSession, events: Events) -> None:
    """Output under an earlier cell's id is recorded as that cell's and changes neither result."""
    async with open_test_session() as session:
        assert printed(await run(session, f"{SOCKETS}\nstolen = own()\nprint('first')")) == "first\n"
        content = b'{"name":"stdout","text":"stolen"}'
        code = f"publish(parts(header('stream'), stolen, {content!r}))\nprint('second')"
        assert printed(await run(session, code)) == "second\n"
    late = [event for event in events.all if getattr(event, "late", False)]
    assert [getattr(event, "cell", None) for event in late] == [1]


@pytest.mark.parametrize(
    ("way", "head", "parent", "content"),
    [
        ("publish", "header('stream')", "own()", "b'{'"),
        ("publish", "header('stream')", "own()", "b'[' * 500_000"),
        ("publish", "header('x' * 300)", "own()", "b'{}'"),
        ("reply", "header('execute_reply')", "own()", "b'[]'"),
        ("reply", "header('execute_reply')", "own()", 'b\'{"status":"ok","rlm_cut":-1}\''),
        ("reply", "header('execute_reply').decode().encode('utf-16')", "own()", "b'{}'"),
    ],
)
async def test_parts_that_are_no_json_end_the_session(
    open_test_session: OpenSession, way: str, head: str, parent: str, content: str
) -> None:
    """What no kernel writes ends the session with a typed error."""
    async with open_test_session() as session:
        with pytest.raises(GuestProtocolError):
            await run(session, f"{SOCKETS}\n{way}(parts({head}, {parent}, {content}))\nimport time; time.sleep(20)")


async def test_unreadable_headers_are_dropped(open_test_session: OpenSession) -> None:
    """Messages without the shape of one end in the relay."""
    async with open_test_session() as session:
        code = f"""{SOCKETS}
publish([])
publish([b"<IDS|MSG>"])
publish(parts(b"null", own(), b"{{}}"))
publish(parts(b"[" * 100_000, own(), b"{{}}"))
publish(parts(header("stream"), b"[]", b"{{}}"))
publish([b"x"] * 1000)
print("end")
"""
        assert printed(await run(session, code)) == "end\n"
        await assert_usable(session)


async def test_giant_and_countless_messages(open_test_session: OpenSession) -> None:
    """Parts of 60 MB and 100,000 messages past the first cut are cut; the host stays small."""
    async with memory_bound(200 * MIB), open_test_session(carrier="attach") as session:
        code = f"""{SOCKETS}
text = b'{{"name":"stdout","text":"'
publish(parts(header("stream"), own(), text + b"x" * 60_000_000 + b'"}}'))
reply(parts(header("execute_reply"), own(), b'{{"status":"' + b"x" * 60_000_000 + b'"}}'))
publish(parts(header("stream"), own(), text + b'x"}}'), times=100_000)
publish(parts(header("error"), own(), b'{{"ename":"E","evalue":"","traceback":[]}}'), times=20_000)
"""
        started = time.monotonic()
        result = await run(session, code)
        assert result.status in ("ok", "error"), result.status
        assert result.cut > 60_000_000
        assert time.monotonic() - started < 30
        await assert_usable(session)


@pytest.mark.parametrize("way", ["publish", "reply"])
async def test_a_part_over_every_limit(open_test_session: OpenSession, way: str) -> None:
    """A message for which the sockets hang up costs the kernel; no later cell loses its output without a word."""
    async with open_test_session() as session:
        code = f"{SOCKETS}\n{way}(parts(header('stream'), own(), b'x' * 70_000_000))\nimport time; time.sleep(20)"
        assert (await run(session, code)).status == "kernel_died"
        await assert_usable(session)


async def test_strangers_on_the_sockets(open_test_session: OpenSession, events: Events) -> None:
    """A second client on every socket that the kernel binds, and junk on them, disturb nobody."""
    async with open_test_session() as session:
        code = f"""{SOCKETS}
import os
for name, kind in (("1", zmq.DEALER), ("2", zmq.SUB), ("3", zmq.DEALER), ("4", zmq.DEALER)):
    client = stranger(name, kind)
    if kind == zmq.DEALER:
        client.send_multipart([b"<IDS|MSG>", b"no signature", b"{{}}", b"{{}}", b"{{}}", b"{{}}"])
        client.send(b"junk")
"""
        assert (await run(session, code)).status == "ok"
        assert (await run(session, "import time; time.sleep(0.2)")).status == "ok"
        await assert_usable(session)
    assert not events.of(KernelLost)


async def test_tricks_in_the_private_folder(open_test_session: OpenSession, events: Events) -> None:
    """Renamed sockets, links, deep folders and a full private folder don't keep the next kernel from starting."""
    async with open_test_session() as session:
        code = """
import os
os.chdir("/run/rlm-guest")
for name in os.listdir():
    os.rename(name, name + ".away")
    os.symlink("/proc/1/environ", name)
os.mkfifo("kernel-2.json")
os.makedirs("deep/" * 400)
try:
    with open("full", "wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()
except OSError as error:
    print(error.strerror)
"""
        assert printed(await run(session, code)) == "No space left on device\n"
        await assert_usable(session)
        assert (await run(session, "import os; os._exit(0)")).status == "kernel_died"
        await assert_usable(session)
    assert [event.generation for event in events.of(KernelReady)] == [1, 2]


async def test_a_streamed_context_that_a_cell_removed(open_test_session: OpenSession, events: Events) -> None:
    """A cell can take the next kernel's context away where it lies in the container, which costs it the container."""
    async with open_test_session(carrier="attach") as session:
        result = await run(session, "import os; os.unlink('/run/rlm-guest/context'); os._exit(0)")
        assert result.status == "kernel_died"
        await assert_usable(session)
    assert len(events.of(SandboxStarted)) == 2
    assert any("context could not be loaded" in event.message for event in events.of(Notice))
