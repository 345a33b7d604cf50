"""Guests that lie in the middle of a cell, each beside an honest one in the same process, which notices nothing."""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from rlm_kernel.errors import GuestProtocolError, SandboxLost
from rlm_kernel.events import KernelLost, KernelReady
from rlm_kernel.guest.wire import CREDIT, FLAG_CREDIT, FLAG_PING, FRAME_LIMIT, HEADER, LIMITS, Channel
from rlm_kernel.stream import Endpoint
from tests.attacks.conftest import memory_bound
from tests.docker.conftest import MIB
from tests.support.guest import Guest, guest_and_endpoint
from tests.unit.kernel.test_client import begin, finish, idle, ready, reply, started

Lie = Callable[[Guest, str, str], Awaitable[None]]
HUGE = "9" * 4000


def frame(channel: int, payload: bytes, flags: int = 0, length: int | None = None) -> bytes:
    """Return a frame; `length` is what its header claims."""
    return HEADER.pack(len(payload) if length is None else length, channel, flags) + payload


def raw(data: bytes) -> Lie:
    """Write bytes as they are."""

    async def lie(guest: Guest, own: str, other: str) -> None:
        with suppress(ConnectionError):
            await guest.raw(data)

    return lie


def control(text: str) -> Lie:
    """Send a control message, given as JSON."""
    return raw(frame(Channel.CONTROL, text.encode()))


def on(channel: Channel, text: str) -> Lie:
    """Send JSON in which OWN and OTHER stand for the ids of this session's cell and of the neighbour's."""

    async def lie(guest: Guest, own: str, other: str) -> None:
        await guest.say(channel, text.replace("OWN", own).replace("OTHER", other).encode())

    return lie


def jupyter(kind: str, parent: str, content: str) -> str:
    """Return a Jupyter message as JSON."""
    return (
        f'{{"header":{{"msg_id":"m","msg_type":"{kind}"}},"parent_header":{{"msg_id":"{parent}"}},"content":{content}}}'
    )


async def truncated(guest: Guest, own: str, other: str) -> None:
    """Go in the middle of a frame."""
    await guest.raw(frame(Channel.IOPUB, b"x" * 10, length=100))
    await guest.close()


async def half_closed(guest: Guest, own: str, other: str) -> None:
    """End only what is written."""
    guest.half_close()


async def byte_by_byte(guest: Guest, own: str, other: str) -> None:
    """Take very long for one message."""
    for byte in frame(Channel.CONTROL, b'{"type":"kernel_warm","generation":1}'):
        await guest.raw(bytes([byte]))
        await asyncio.sleep(0)


BROKEN: dict[str, Lie] = {
    "unknown channel": raw(frame(9, b"x")),
    "oversize": raw(frame(Channel.IOPUB, b"", length=FRAME_LIMIT + 1)),
    "message too long": raw(frame(Channel.CONTROL, b"x" * 60_000, 1) * 2),
    "over the window": raw(frame(Channel.SHELL, b"x" * FRAME_LIMIT, 1) * (LIMITS[Channel.SHELL].window // FRAME_LIMIT)),
    "credit unused": raw(frame(Channel.SHELL, CREDIT.pack(LIMITS[Channel.SHELL].window), FLAG_CREDIT)),
    "credit of all": raw(frame(Channel.CONTROL, CREDIT.pack(2**32 - 1), FLAG_CREDIT)),
    "own direction": raw(frame(Channel.CONTEXT, b"x")),
    "hello again": control('{"type":"hello","protocol":1,"facts":{}}'),
    "no type": control("{}"),
    "unknown type": control('{"type":"grant","budget":1e9}'),
    "array": control("[]"),
    "nan": control('{"type":"cut","cell_msg_id":"x","bytes":NaN,"messages":1}'),
    "negative cut": control('{"type":"cut","cell_msg_id":"x","bytes":-1,"messages":1}'),
    "fractional cut": control('{"type":"cut","cell_msg_id":"x","bytes":1.5,"messages":1}'),
    "absurd cut": control(f'{{"type":"cut","cell_msg_id":"x","bytes":{HUGE},"messages":1}}'),
    "infinite cut": control('{"type":"cut","cell_msg_id":"x","bytes":1e999,"messages":1}'),
    "absurd generation": control(f'{{"type":"kernel_died","generation":{HUGE},"code":0}}'),
    "absurd status": control('{"type":"kernel_died","generation":1,"code":1000}'),
    "long id": on(Channel.IOPUB, jupyter("stream", "x" * 201, "{}")),
    "reply without status": on(Channel.SHELL, jupyter("execute_reply", "OWN", "{}")),
    "reply of numbers": on(Channel.SHELL, jupyter("execute_reply", "OWN", '{"status":1}')),
    "absurd count": on(Channel.SHELL, jupyter("execute_reply", "OWN", f'{{"status":"ok","execution_count":{2**60}}}')),
    "absurd kernel cut": on(Channel.SHELL, jupyter("execute_reply", "OWN", f'{{"status":"ok","rlm_cut":{2**60}}}')),
    "no content": on(Channel.SHELL, '{"header":{"msg_id":"m","msg_type":"execute_reply"}}'),
    "two values": on(Channel.SHELL, "{} {}"),
}
GONE: dict[str, Lie] = {"truncated": truncated, "half-closed": half_closed}
HARMLESS: dict[str, Lie] = {
    "ready again": control(json.dumps(ready(1))),
    "ready from the future": control(json.dumps(ready(2**53))),
    "bind failed": control('{"type":"bind_failed","message":"too late"}'),
    "warm": control('{"type":"kernel_warm","generation":1}'),
    "cut of nobody": control(f'{{"type":"cut","cell_msg_id":"nobody","bytes":{2**53},"messages":1}}'),
    "reply of another cell": on(Channel.SHELL, jupyter("execute_reply", "OTHER", '{"status":"error"}')),
    "reply of another type": on(Channel.SHELL, jupyter("inspect_reply", "OWN", '{"status":"ok"}')),
    "output of the neighbour": on(Channel.IOPUB, jupyter("stream", "OTHER", '{"name":"stdout","text":"forged"}')),
    "idle of the neighbour": on(Channel.IOPUB, jupyter("status", "OTHER", '{"execution_state":"idle"}')),
    "error of the neighbour": on(Channel.IOPUB, jupyter("error", "OTHER", '{"ename":"E","evalue":"","traceback":[]}')),
    "clear of the neighbour": on(Channel.IOPUB, jupyter("clear_output", "OTHER", "{}")),
    "cut of the neighbour": on(Channel.CONTROL, '{"type":"cut","cell_msg_id":"OTHER","bytes":5,"messages":1}'),
    "request to the host": on(Channel.SHELL, jupyter("execute_request", "OWN", '{"code":"1"}')),
    "comm": on(Channel.IOPUB, jupyter("comm_open", "OWN", '{"comm_id":"x"}')),
    "input": on(Channel.IOPUB, jupyter("input_request", "OWN", '{"prompt":"key?"}')),
    "pings": raw(frame(Channel.CONTROL, b"", FLAG_PING) * 1000),
    "interleaved": raw(
        frame(Channel.IOPUB, b'{"header":{"msg_id":"m",', 1)
        + frame(Channel.CONTROL, b'{"type":"kernel_warm","generation":1}')
        + frame(Channel.IOPUB, b'"msg_type":"comm_msg"},"content":{}}')
    ),
    "byte by byte": byte_by_byte,
}


@pytest.mark.parametrize("name", BROKEN | GONE)
async def test_a_lie_ends_its_own_session_only(name: str) -> None:
    """What the protocol forbids is a typed error at once; the honest session ends its cell and runs another."""
    async with started() as (guest, client, _), started() as (honest, neighbour, _):
        task, own = await begin(guest, client, limit=60)
        theirs, other = await begin(honest, neighbour, limit=60)
        await (BROKEN | GONE)[name](guest, own, other)
        if name in GONE:
            assert (await asyncio.wait_for(task, 5)).ename == "SandboxLost"
        else:
            with pytest.raises(GuestProtocolError) as error:
                await asyncio.wait_for(task, 5)
            assert len(str(error.value)) < 1_000
        assert await asyncio.wait_for(guest.ended(), 5)
        assert (await finish(honest, theirs, other)).status == "ok"
        theirs, other = await begin(honest, neighbour)
        assert (await finish(honest, theirs, other)).status == "ok"


@pytest.mark.parametrize("name", HARMLESS)
async def test_a_lie_that_changes_nothing(name: str) -> None:
    """What is allowed and untrue, or another's, changes neither this session's cell nor the neighbour's."""
    async with started() as (guest, client, events), started() as (honest, neighbour, _):
        task, own = await begin(guest, client, limit=60)
        theirs, other = await begin(honest, neighbour, limit=60)
        await HARMLESS[name](guest, own, other)
        for result in (await finish(guest, task, own), await finish(honest, theirs, other)):
            assert (result.status, result.outputs, result.cut, result.lost) == ("ok", (), 0, None)
        assert [event.generation for event in events.of(KernelReady)] == [1]
        assert not events.of(KernelLost)


async def test_a_flood_of_any_kind_leaves_the_neighbour_its_time() -> None:
    """Guests that send the smallest things without end can't take the time of the host's process from the others."""
    kinds = (
        frame(Channel.CONTROL, b"", FLAG_PING),
        frame(Channel.IOPUB, b"x", 1) * 50 + frame(Channel.IOPUB, b"x"),
        frame(Channel.CONTROL, b"{}"),
        frame(Channel.IOPUB, b"x" * 1000),
    )
    async with memory_bound(100 * MIB), started() as (honest, neighbour, _):
        with flooding(kinds) as ends:
            async with asyncio.timeout(100):
                endpoints = [endpoint async for endpoint in released(ends)]
                await asyncio.sleep(0.3)
                turns = []
                for _ in range(20):
                    began = time.monotonic()
                    task, parent = await begin(honest, neighbour, limit=60)
                    await finish(honest, task, parent)
                    turns.append(time.monotonic() - began)
            for endpoint in endpoints:
                assert not endpoint.lost.done()
                endpoint.close()
    assert statistics.median(turns) < 2, "it takes five turns of the loop; without pauses each takes a second"


async def released(ends: list[socket.socket]) -> AsyncIterator[Endpoint]:
    """Yield an endpoint on each socket; it takes every message and gives it back."""
    for end in ends:
        _, endpoint = await asyncio.get_running_loop().create_connection(Endpoint, sock=end)
        for channel in (Channel.CONTROL, Channel.SHELL, Channel.SUBCALL, Channel.IOPUB):
            endpoint.handle(channel, endpoint.release)
        yield endpoint


FLOOD = """
import ast, socket, sys, threading
end = socket.socket(fileno=0)
def read():
    while end.recv(2**20): pass
threading.Thread(target=read, daemon=True).start()
data = b"".join(bytes.fromhex(part) * times for part, times in ast.literal_eval(sys.argv[1]))
while True: end.sendall(data)
"""


@contextmanager
def flooding(kinds: tuple[bytes, ...]) -> Iterator[list[socket.socket]]:
    """Yield the host's ends of guests, each a process that writes its kind without end and reads what comes."""
    ends, processes = [], []
    for data in kinds:
        ours, theirs = socket.socketpair()
        with theirs:
            argv = [sys.executable, "-c", FLOOD, repr([(data.hex(), 262_144 // len(data) + 1)])]
            processes.append(subprocess.Popen(argv, stdin=theirs.fileno(), stderr=subprocess.DEVNULL))
        ends.append(ours)
    try:
        yield ends
    finally:
        for process in processes:
            process.kill()
            process.wait()


async def test_who_reads_nothing_gets_nothing_more() -> None:
    """A guest that ends reading is lost as soon as the host has something to say to it."""
    async with guest_and_endpoint() as (guest, endpoint):
        guest.end_reading()
        endpoint.send(Channel.CONTROL, b"{}")
        assert isinstance(await asyncio.wait_for(endpoint.lost, 5), SandboxLost)


async def test_an_early_end_is_not_the_next_cells() -> None:
    """A reply and an idle status that are sent twice end their cell once; the next one waits for its own."""
    async with started() as (guest, client, _):
        task, parent = await begin(guest, client)
        for _ in range(3):
            await reply(guest, parent)
            await idle(guest, parent)
        assert (await task).status == "ok"
        task, parent = await begin(guest, client)
        await asyncio.sleep(0.05)
        assert not task.done()
        assert (await finish(guest, task, parent)).status == "ok"
