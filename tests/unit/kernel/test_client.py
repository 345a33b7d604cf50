"""The kernel client against guests that leave things out, lie, or die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel.errors import GuestProtocolError, KernelFailed, SandboxLost
from rlm_kernel.events import CellFinished, CellOutput, CellOutputCleared, KernelLost
from rlm_kernel.guest.wire import Channel
from rlm_kernel.kernel import BoundContext, CellResult, KernelClient
from rlm_kernel.kernel.messages import CELL_MIME
from tests.support.guest import Guest, guest_and_endpoint
from tests.support.sinks import Events

CONTEXT = BoundContext(kind="str", size=3, index_size=0)


def ready(generation: int) -> dict[str, Any]:
    """Return the guest's word that a kernel is ready."""
    return {"type": "kernel_ready", "generation": generation, "context_type": "str", "context_length": 3}


@asynccontextmanager
async def started() -> AsyncIterator[tuple[Guest, KernelClient, Events]]:
    """Yield a client whose kernel is ready."""
    async with guest_and_endpoint() as (guest, endpoint):
        events = Events()
        client = KernelClient(endpoint)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(client.start(CONTEXT, events))
            bind = await guest.next(Channel.CONTROL)
            assert bind["type"] == "bind"
            await guest.say(Channel.CONTROL, ready(1))
        yield guest, client, events


async def begin(guest: Guest, client: KernelClient, limit: float = 5) -> tuple[asyncio.Task[CellResult], str]:
    """Start a cell and return its task and the id of its request as the guest saw it."""
    task = asyncio.ensure_future(client.run("1", turn=1, time_limit=limit))
    request = await guest.next(Channel.SHELL)
    return task, request["header"]["msg_id"]


async def reply(guest: Guest, parent: str, **content: Any) -> None:
    """Send an execute_reply."""
    await guest.jupyter(Channel.SHELL, "execute_reply", parent, **{"status": "ok", "execution_count": 1, **content})


async def idle(guest: Guest, parent: str) -> None:
    """Send the idle status."""
    await guest.jupyter(Channel.IOPUB, "status", parent, execution_state="idle")


async def finish(guest: Guest, task: asyncio.Task[CellResult], parent: str) -> CellResult:
    """Let the guest end the cell as a kernel does."""
    await reply(guest, parent)
    await idle(guest, parent)
    return await asyncio.wait_for(task, 5)


async def test_outputs_arrive_in_order_and_joined() -> None:
    """Successive text of one stream is one output of the result; each message is an event."""
    async with started() as (guest, client, events):
        task, parent = await begin(guest, client)
        await guest.jupyter(Channel.IOPUB, "stream", parent, name="stdout", text="a")
        await guest.jupyter(Channel.IOPUB, "stream", parent, name="stdout", text="b")
        await guest.jupyter(Channel.IOPUB, "stream", parent, name="stderr", text="c")
        data = {"text/plain": "4"}
        await guest.jupyter(Channel.IOPUB, "execute_result", parent, data=data, metadata={}, execution_count=1)
        result = await finish(guest, task, parent)
        assert result.status == "ok"
        assert result.outputs == (
            {"output_type": "stream", "name": "stdout", "text": "ab"},
            {"output_type": "stream", "name": "stderr", "text": "c"},
            {"output_type": "execute_result", "data": data, "metadata": {}, "execution_count": 1},
        )
        assert len(events.of(CellOutput)) == 4
        assert events.of(CellFinished)[0].status == "ok"


async def test_an_error_has_no_colours() -> None:
    """A failing cell is a value; its traceback is free of terminal codes."""
    async with started() as (guest, client, _):
        task, parent = await begin(guest, client)
        error = {"ename": "ValueError", "evalue": "no", "traceback": ["\x1b[31mValueError\x1b[39m: no\x1b]0;x\x07"]}
        await guest.jupyter(Channel.IOPUB, "error", parent, **error)
        await reply(guest, parent, status="error")
        await idle(guest, parent)
        result = await task
        assert (result.status, result.ename, result.evalue) == ("error", "ValueError", "no")
        assert result.outputs[0]["traceback"] == ["ValueError: no"]


async def test_the_final_comes_with_the_reply() -> None:
    """What the guest says at the cell's end is the cell's answer; without a reply there is none."""
    async with started() as (guest, client, _):
        task, parent = await begin(guest, client)
        end = {"final": {"value": {"a": 1}, "source": "FINAL"}, "names": ["x"]}
        await reply(guest, parent, user_expressions={"rlm": {"status": "ok", "data": {CELL_MIME: end}, "metadata": {}}})
        await idle(guest, parent)
        result = await task
        assert result.final is not None
        assert (result.final.value, result.final.source) == ({"a": 1}, "FINAL")


@pytest.mark.parametrize("sign", ["reply", "idle"])
async def test_a_lost_message_does_not_hang_a_cell(sign: str) -> None:
    """A cell ends although its reply or its idle status never arrives, long before its time limit."""
    async with started() as (guest, client, _):
        task, parent = await begin(guest, client, limit=60)
        await (reply if sign == "reply" else idle)(guest, parent)
        assert (await asyncio.wait_for(task, 5)).status == "ok"


async def test_late_output_belongs_to_its_cell() -> None:
    """Output of a thread that an ended cell left over is recorded as that cell's, and is not in the next result."""
    async with started() as (guest, client, events):
        task, first = await begin(guest, client)
        await finish(guest, task, first)
        task, second = await begin(guest, client)
        await guest.jupyter(Channel.IOPUB, "stream", first, name="stdout", text="late")
        result = await finish(guest, task, second)
        assert result.outputs == ()
        output = events.of(CellOutput)[0]
        assert (output.cell, output.late) == (1, True)


async def test_a_cell_over_its_limit_is_interrupted() -> None:
    """At the time limit the guest is told to interrupt; a cell that stops then keeps its variables."""
    async with started() as (guest, client, _):
        task, parent = await begin(guest, client, limit=0.1)
        assert (await guest.next(Channel.CONTROL))["type"] == "interrupt"
        await reply(guest, parent, status="error")
        await idle(guest, parent)
        result = await task
        assert (result.status, result.lost) == ("timed_out", None)


async def test_a_cell_that_does_not_stop_loses_its_kernel() -> None:
    """A cell that survives the interrupt costs the kernel; the lost names are said, and the session goes on."""
    async with started() as (guest, client, events):
        task, parent = await begin(guest, client)
        end = {"final": None, "names": ["x", "y"]}
        await reply(guest, parent, user_expressions={"rlm": {"status": "ok", "data": {CELL_MIME: end}, "metadata": {}}})
        await idle(guest, parent)
        await task
        task, _ = await begin(guest, client, limit=0.1)
        assert (await guest.next(Channel.CONTROL))["type"] == "interrupt"
        assert (await guest.next(Channel.CONTROL))["type"] == "restart"
        await guest.say(Channel.CONTROL, ready(2))
        result = await task
        assert (result.status, result.lost) == ("timed_out", ("x", "y"))
        assert events.of(KernelLost)[0].generation == 1
        task, parent = await begin(guest, client)
        assert (await finish(guest, task, parent)).status == "ok"


@pytest.mark.parametrize("oom", [True, False])
async def test_a_kernel_that_dies_in_a_cell(oom: bool) -> None:
    """The cell ends at once with the kind of death, and a new kernel takes over."""
    async with started() as (guest, client, _):
        task, _ = await begin(guest, client, limit=60)
        await guest.say(Channel.CONTROL, {"type": "kernel_died", "generation": 1, "code": -9, "oom": oom})
        assert (await guest.next(Channel.CONTROL))["type"] == "restart"
        await guest.say(Channel.CONTROL, ready(2))
        result = await asyncio.wait_for(task, 5)
        assert result.status == "kernel_died"
        assert result.ename == ("OutOfMemory" if oom else "KernelDied")


async def test_a_kernel_that_dies_between_cells() -> None:
    """The next cell says that the kernel died instead of waiting for it."""
    async with started() as (guest, client, _):
        await guest.say(Channel.CONTROL, {"type": "kernel_died", "generation": 1, "code": 0})
        await asyncio.sleep(0.05)
        task = asyncio.ensure_future(client.run("1", turn=1, time_limit=60))
        assert (await guest.next(Channel.CONTROL))["type"] == "restart"
        await guest.say(Channel.CONTROL, ready(2))
        assert (await asyncio.wait_for(task, 5)).status == "kernel_died"


async def test_a_guest_that_goes_away_ends_the_cell() -> None:
    """The end of the stream in the middle of a cell is an error of the machine, at once."""
    async with started() as (guest, client, _):
        task, _ = await begin(guest, client, limit=60)
        await guest.close()
        with pytest.raises(SandboxLost):
            await asyncio.wait_for(task, 5)


@pytest.mark.parametrize(
    ("channel", "payload"),
    [
        (Channel.IOPUB, b"{"),
        (Channel.IOPUB, b'{"header": {"msg_id": 1, "msg_type": "status"}, "content": {}}'),
        (Channel.IOPUB, b"[" * 60_000),
        (Channel.SHELL, b"\xff\xfe"),
        (Channel.CONTROL, b'{"type": "grant", "budget": 1000000}'),
        (Channel.CONTROL, b'{"type": "kernel_ready", "generation": "1"}'),
    ],
)
async def test_malformed_messages_end_the_session(channel: Channel, payload: bytes) -> None:
    """What no kernel sends is a typed error that ends the session, never a crash of the host."""
    async with started() as (guest, client, _):
        task, _ = await begin(guest, client, limit=60)
        await guest.say(channel, payload)
        with pytest.raises(GuestProtocolError):
            await asyncio.wait_for(task, 5)


async def test_unusable_outputs_are_counted_as_cut() -> None:
    """Content that model code can malform is left out and counted; it does not end the session."""
    async with started() as (guest, client, _):
        task, parent = await begin(guest, client)
        await guest.jupyter(Channel.IOPUB, "stream", parent, name="stdout", text=5)
        await guest.jupyter(Channel.IOPUB, "stream", "forged", name="stdout", text="not mine")
        result = await finish(guest, task, parent)
        assert result.outputs == ()
        assert result.cut > 0


async def test_a_flood_is_cut_at_the_host() -> None:
    """A guest that cuts nothing can't fill the host: output over the limit is counted and left out."""
    async with started() as (guest, client, _):
        task, parent = await begin(guest, client)
        text = "x" * 1_000_000
        for _ in range(20):
            await guest.say_all(Channel.IOPUB, "stream", parent, name="stdout", text=text)
        result = await finish(guest, task, parent)
        assert result.cut >= 3_000_000
        kept = result.outputs[0]["text"]
        assert isinstance(kept, str)
        assert len(kept) <= 16 * 1024 * 1024


async def test_an_error_after_a_flood_still_has_its_name() -> None:
    """Where an error's output is cut, its name and message are those of the reply."""
    async with started() as (guest, client, _):
        task, parent = await begin(guest, client)
        for _ in range(18):
            await guest.say_all(Channel.IOPUB, "stream", parent, name="stdout", text="x" * 1_000_000)
        await guest.jupyter(Channel.IOPUB, "error", parent, ename="E", evalue="v", traceback=["t"])
        await reply(guest, parent, status="error", ename="E", evalue="v")
        await idle(guest, parent)
        result = await asyncio.wait_for(task, 5)
        assert (result.status, result.ename, result.evalue) == ("error", "E", "v")
        task, parent = await begin(guest, client)
        await reply(guest, parent, status="error", ename=5, evalue=["v"], execution_count=1)
        await idle(guest, parent)
        result = await asyncio.wait_for(task, 5)
        assert (result.status, result.ename, result.evalue) == ("error", None, None)


async def test_a_kernel_that_can_not_start() -> None:
    """A kernel that dies at its start, or can't load the context, is `KernelFailed`."""
    for message in (
        {"type": "kernel_died", "generation": 1, "code": 1},
        {"type": "bind_failed", "message": "no such file"},
    ):
        async with guest_and_endpoint() as (guest, endpoint):
            task = asyncio.ensure_future(KernelClient(endpoint).start(CONTEXT, Events()))
            await guest.next(Channel.CONTROL)
            await guest.say(Channel.CONTROL, message)
            with pytest.raises(KernelFailed):
                await asyncio.wait_for(task, 5)


async def test_a_context_is_streamed(tmp_path: Path) -> None:
    """On a carrier without shared files the context's bytes arrive whole and in order."""
    blob = tmp_path / "blob"
    blob.write_bytes(bytes(range(256)) * 40_000)
    async with guest_and_endpoint() as (guest, endpoint):
        context = BoundContext(kind="str", size=blob.stat().st_size, index_size=0, files=(blob,))
        task = asyncio.ensure_future(KernelClient(endpoint).start(context, Events()))
        assert (await guest.next(Channel.CONTROL))["context"]["source"] == "stream"
        received = b"".join([chunk async for chunk in guest.bytes_of(Channel.CONTEXT, context.size)])
        assert received == blob.read_bytes()
        await guest.say(Channel.CONTROL, ready(1))
        await asyncio.wait_for(task, 5)


async def test_a_display_is_changed_in_place() -> None:
    """Updates and clears give the outputs that a notebook would show; the events tell each step."""
    async with started() as (guest, client, events):
        task, parent = await begin(guest, client)
        for kind, shown in (("display_data", "10%"), ("display_data", "other"), ("update_display_data", "90%")):
            transient = {} if shown == "other" else {"display_id": "bar"}
            content = {"data": {"text/plain": shown}, "metadata": {}, "transient": transient}
            await guest.jupyter(Channel.IOPUB, kind, parent, **content)
        result = await finish(guest, task, parent)
        assert [output["data"] for output in result.outputs] == [{"text/plain": "90%"}, {"text/plain": "other"}]
        assert [(event.display_id, event.update) for event in events.of(CellOutput)] == [
            ("bar", False),
            (None, False),
            ("bar", True),
        ]
        task, parent = await begin(guest, client)
        for step in ("1", "2"):
            await guest.jupyter(Channel.IOPUB, "clear_output", parent, wait=True)
            await guest.jupyter(Channel.IOPUB, "stream", parent, name="stdout", text=step)
        result = await finish(guest, task, parent)
        assert result.outputs == ({"output_type": "stream", "name": "stdout", "text": "2"},)
        assert len(events.of(CellOutputCleared)) == 2


async def test_a_stopped_cell_is_interrupted() -> None:
    """`stop` ends the running cell as its time limit would, with its own status; without a cell it does nothing."""
    async with started() as (guest, client, _):
        client.stop()
        task, parent = await begin(guest, client, limit=60)
        client.stop()
        assert (await guest.next(Channel.CONTROL))["type"] == "interrupt"
        await reply(guest, parent, status="error")
        await idle(guest, parent)
        assert (await asyncio.wait_for(task, 5)).status == "interrupted"


async def test_an_old_kernels_death_is_no_news() -> None:
    """A kernel that dies while it is being replaced does not fail the new one."""
    async with started() as (guest, client, _):
        task, _ = await begin(guest, client, limit=0.1)
        await guest.next(Channel.CONTROL)
        assert (await guest.next(Channel.CONTROL))["type"] == "restart"
        await guest.say(Channel.CONTROL, {"type": "kernel_died", "generation": 1, "code": -9, "oom": True})
        await guest.say(Channel.CONTROL, ready(2))
        assert (await asyncio.wait_for(task, 5)).status == "timed_out"
