"""Doors of the system's kernel that no namespace closes."""

from __future__ import annotations

import json
import socket

from rlm_kernel.sandbox.spec import Carrier
from tests.attacks.conftest import assert_usable, printed, program, run
from tests.docker.conftest import OpenSession


async def test_no_way_to_the_hypervisor_or_past_the_filter(open_test_session: OpenSession, carrier: Carrier) -> None:
    """Only harmless families of sockets open, io_uring is closed, and no other machine's calls lead around that."""
    async with open_test_session(carrier=carrier) as session:
        found = json.loads(printed(await run(session, program("doors"))))
        assert set(found.pop("families")) <= {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK}
        assert found == {"io_uring": False, "32 bit": False, "x32": False, "in a new program": "refused\n"}
        await assert_usable(session)


async def test_what_cells_need_stays_open(open_test_session: OpenSession) -> None:
    """Servers on the loopback interface, pipes and processes work as ever, in a kernel that was started anew too."""
    code = """
import asyncio, multiprocessing, socket
async def talk():
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.close()
    return await reader.read()
assert asyncio.new_event_loop is not None and await talk() == b""
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(pool.map(abs, [-1, -2]))
"""
    async with open_test_session() as session:
        assert printed(await run(session, code)) == "[1, 2]\n"
        await run(session, "import os; os._exit(0)")
        assert printed(await run(session, code)) == "[1, 2]\n"
