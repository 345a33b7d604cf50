"""The kernel client against guests that leave things out, lie, or die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel.errors import GuestProtocolError, KernelFailed, SandboxLost
from rlm_kernel.events import CellFinished, CellInterrupted, CellOutput, CellOutputCleared, KernelLost, KernelReady
from rlm_kernel.guest.wire import Channel
from rlm_kernel.kernel import Binding, BoundContext, CellResult, KernelClient, Stop, ladder, start
from rlm_kernel.kernel.messages import CELL_MIME
from tests.support.guest import Guest, guest_and_endpoint
from tests.support.sinks import Events

CONTEXT = Binding((BoundContext(kind="str", size=3, index_size=0),))


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


async def begin(
    guest: Guest, client: KernelClient, limit: float = 5, *, cell: int = 1, stop: Stop | None = None
) -> tuple[asyncio.Task[CellResult], str]:
    """Start a cell and return its task and the id of its request as the guest saw it."""
    await asyncio.wait_for(client.usable(), 5)
    task = asyncio.ensure_future(client.run("1", cell=cell, turn=1, time_limit=limit, stop=stop))
    request = await guest.next(Channel.SHELL)
    return task, request["header"]["msg_id"]


async def order(guest: Guest) -> str:
    """Return the type of the next control message that the guest is sent."""
    kind = (await guest.next(Channel.CONTROL))["type"]
    assert isinstance(kind, str)
    return kind


def said(**content: Any) -> dict[str, Any]:
    """Return what a kernel says at a cell's end, as it stands in the reply."""
    return {"rlm": {"status": "ok", "data": {CELL_MIME: {"final": None, **content}}, "metadata": {}}}


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
        task, second = await begin(guest, client, cell=2)
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


@pytest.mark.usefixtures("impatient")
async def test_a_cell_that_does_not_stop_loses_its_kernel() -> None:
    """A cell that survives the interrupt costs the kernel; the lost names are said, and the session goes on."""
    async with started() as (guest, client, events):
        task, parent = await begin(guest, client)
        end = {"final": None, "names": ["x", "y"]}
        await reply(guest, parent, user_expressions={"rlm": {"status": "ok", "data": {CELL_MIME: end}, "metadata": {}}})
        await idle(guest, parent)
        await task
        task, _ = await begin(guest, client, limit=0.1)
        assert [await order(guest) for _ in range(3)] == ["interrupt", "cancel", "restart"]
        result = await task
        assert (result.status, result.lost) == ("timed_out", ("x", "y"))
        assert events.of(KernelLost)[0].generation == 1
        assert [event.step for event in events.of(CellInterrupted)] == ["sigint", "cancel", "restart"]
        assert {event.reason for event in events.of(CellInterrupted)} == {"timed_out"}
        await guest.say(Channel.CONTROL, ready(2))
        task, parent = await begin(guest, client)
        assert (await finish(guest, task, parent)).status == "ok"


@pytest.mark.parametrize("oom", [True, False])
async def test_a_kernel_that_dies_in_a_cell(oom: bool) -> None:
    """The cell ends at once with the kind of death, and a new kernel takes over."""
    async with started() as (guest, client, _):
        task, _ = await begin(guest, client, limit=60)
        await guest.say(Channel.CONTROL, {"type": "kernel_died", "generation": 1, "code": -9, "oom": oom})
        assert await order(guest) == "restart"
        result = await asyncio.wait_for(task, 5)
        assert result.status == "kernel_died"
        assert result.ename == ("OutOfMemory" if oom else "KernelDied")


async def test_a_kernel_that_dies_between_cells() -> None:
    """The next cell says that the kernel died instead of waiting for it."""
    async with started() as (guest, client, _):
        await guest.say(Channel.CONTROL, {"type": "kernel_died", "generation": 1, "code": 0})
        await asyncio.sleep(0.05)
        task = asyncio.ensure_future(client.run("1", cell=1, turn=1, time_limit=60))
        assert (await asyncio.wait_for(task, 5)).status == "kernel_died"
        assert await order(guest) == "restart"


async def test_a_guest_that_goes_away_ends_the_cell() -> None:
    """The end of the stream in the middle of a cell is its outcome, at once, and no cell can follow."""
    async with started() as (guest, client, events):
        task, parent = await begin(guest, client)
        await reply(guest, parent, user_expressions=said(names=["x"]))
        await idle(guest, parent)
        await task
        task, _ = await begin(guest, client, limit=60)
        await guest.close()
        result = await asyncio.wait_for(task, 5)
        assert (result.status, result.ename, result.lost) == ("kernel_died", "SandboxLost", ("x",))
        assert [event.lost for event in events.of(KernelLost)] == [["x"]]
        with pytest.raises(SandboxLost):
            await client.usable()


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


async def test_what_is_cut_after_a_cell_is_told_once() -> None:
    """Output of an ended cell that is left out, by the relay or by the host, is told at the next cell's end."""
    async with started() as (guest, client, events):
        task, first = await begin(guest, client)
        await guest.say(Channel.CONTROL, {"type": "cut", "cell_msg_id": first, "bytes": 7, "messages": 1})
        assert (await finish(guest, task, first)).cut == 7
        await guest.say(Channel.CONTROL, {"type": "cut", "cell_msg_id": first, "bytes": 500, "messages": 2})
        await guest.jupyter(Channel.IOPUB, "stream", first, name="stdout", text=5)
        for _ in range(2):
            task, parent = await begin(guest, client)
            assert (await finish(guest, task, parent)).cut == 0
        client.record_late_cuts()
        (late,) = events.of(CellOutput)
        assert (late.cell, late.late) == (1, True)
        cut = int(str(late.output["text"]).split()[1])
        assert cut > 500


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
        task = asyncio.ensure_future(KernelClient(endpoint).start(Binding((context,), streamed=True), Events()))
        assert (await guest.next(Channel.CONTROL))["source"] == "stream"
        received = b"".join([chunk async for chunk in guest.bytes_of(Channel.CONTEXT, context.size)])
        assert received == blob.read_bytes()
        await guest.say(Channel.CONTROL, ready(1))
        await asyncio.wait_for(task, 5)


@pytest.mark.parametrize("told", [[], [["str", 3]], [["str", 3]] * 3])
async def test_a_guest_binds_as_many_contexts_as_it_was_given(told: list[Any]) -> None:
    """What a kernel says of several contexts is kept by name; with another number of them it broke the protocol."""
    two = Binding(tuple(BoundContext(kind="str", size=3, index_size=0, name=name) for name in ("one", "two")))
    async with guest_and_endpoint() as (guest, endpoint):
        task = asyncio.ensure_future(KernelClient(endpoint).start(two, Events()))
        assert [each["name"] for each in (await guest.next(Channel.CONTROL))["contexts"]] == ["one", "two"]
        await guest.say(Channel.CONTROL, ready(1) | {"contexts": told})
        with pytest.raises(GuestProtocolError, match=f"bound {len(told)} contexts, not 2"):
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
    """A stop ends the running cell as its time limit would, with its own status and reason."""
    async with started() as (guest, client, events):
        stop: Stop = asyncio.get_running_loop().create_future()
        task, parent = await begin(guest, client, limit=60, stop=stop)
        stop.set_result("budget")
        assert await order(guest) == "interrupt"
        await reply(guest, parent, status="error")
        await idle(guest, parent)
        assert (await asyncio.wait_for(task, 5)).status == "interrupted"
        assert [(event.step, event.reason) for event in events.of(CellInterrupted)] == [("sigint", "budget")]


async def test_a_cell_stopped_before_it_began_does_not_run() -> None:
    """A stop that came while the cell waited for its kernel is kept, and the code is not sent."""
    async with started() as (guest, client, events):
        stop: Stop = asyncio.get_running_loop().create_future()
        stop.set_result("stopped")
        result = await asyncio.wait_for(client.run("1", cell=1, turn=1, time_limit=60, stop=stop), 5)
        assert (result.status, result.lost) == ("interrupted", None)
        assert events.of(CellFinished)[0].status == "interrupted"
        task, parent = await begin(guest, client, cell=2)
        assert (await finish(guest, task, parent)).status == "ok"


async def test_either_sign_ends_a_cell_that_was_asked_to_end() -> None:
    """An interrupt may cost the kernel one of its two messages; the other one is enough to keep its variables."""
    for sign in (reply, idle):
        async with started() as (guest, client, events):
            task, parent = await begin(guest, client, limit=0.1)
            await order(guest)
            await sign(guest, parent)
            result = await asyncio.wait_for(task, 5)
            assert (result.status, result.lost) == ("timed_out", None)
            assert [event.step for event in events.of(CellInterrupted)] == ["sigint"]


async def test_a_cell_that_ends_on_the_cancel_keeps_its_kernel() -> None:
    """The cancel names the cell it is for; one that ends then costs nothing."""
    async with started() as (guest, client, events):
        task, parent = await begin(guest, client, limit=0.1)
        await order(guest)
        assert await guest.next(Channel.CONTROL) == {"type": "cancel", "cell": parent}
        await reply(guest, parent, status="error")
        await idle(guest, parent)
        assert (await asyncio.wait_for(task, 5)).lost is None
        assert [event.step for event in events.of(CellInterrupted)] == ["sigint", "cancel"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a cell that never ends less time to do so."""
    monkeypatch.setattr(ladder, "SIGINT_DEADLINE", 0.1)
    monkeypatch.setattr(ladder, "CANCEL_DEADLINE", 0.1)


async def deaf(guest: Guest, client: KernelClient) -> CellResult:
    """Let a cell cost its kernel, and take the orders up to the restart's."""
    task, _ = await begin(guest, client, limit=0.05)
    assert [await order(guest) for _ in range(3)] == ["interrupt", "cancel", "restart"]
    return await asyncio.wait_for(task, 5)


@pytest.mark.usefixtures("impatient")
async def test_the_result_does_not_wait_for_the_new_kernel() -> None:
    """A cell's result is there when its kernel is given up; the next one waits until its successor is ready."""
    async with started() as (guest, client, events):
        assert (await deaf(guest, client)).lost == ()
        waiting = asyncio.ensure_future(client.usable())
        await guest.say(Channel.CONTROL, {"type": "restarted", "generation": 2})
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await guest.say(Channel.CONTROL, ready(2))
        await asyncio.wait_for(waiting, 5)
        assert [event.generation for event in events.of(KernelReady)] == [1, 2]


@pytest.mark.usefixtures("impatient")
async def test_a_relay_that_does_not_answer_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the relay's own answer in time the sandbox counts as lost; forged and old answers are none."""
    monkeypatch.setattr(start, "RELAY_DEADLINE", 0.3)
    async with started() as (guest, client, events):
        await deaf(guest, client)
        for forged in (
            {"type": "restarted", "generation": 1},
            {"type": "restarted", "generation": 0},
            ready(1),
            {"type": "kernel_died", "generation": 1, "code": -9},
            {"type": "kernel_warm", "generation": 2},
        ):
            await guest.say(Channel.CONTROL, forged)
        with pytest.raises(SandboxLost, match="did not answer"):
            await asyncio.wait_for(client.usable(), 5)
        client.record_replacement()
        assert events.of(CellInterrupted)[-1].step == "replace"


@pytest.mark.usefixtures("impatient")
async def test_a_kernel_that_does_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay that answers has more time to bring its kernel up, and not for ever; one that dies then is told apart."""
    monkeypatch.setattr(start, "RELAY_DEADLINE", 0.1)
    for dies in (True, False):
        async with started() as (guest, client, _):
            monkeypatch.setattr("rlm_kernel.kernel.client.RESTART_DEADLINE", 0.5)
            await deaf(guest, client)
            await guest.say(Channel.CONTROL, {"type": "restarted", "generation": 2})
            if dies:
                await guest.say(Channel.CONTROL, {"type": "kernel_died", "generation": 2, "code": 1})
            with pytest.raises(KernelFailed, match="ended with status 1" if dies else "did not start"):
                await asyncio.wait_for(client.usable(), 5)


@pytest.mark.usefixtures("impatient")
async def test_files_that_made_room_are_told() -> None:
    """A new kernel that needed the room of the cells' files says so, and that is recorded and kept to be told."""
    async with started() as (guest, client, events):
        await deaf(guest, client)
        before = client.files_lost
        await guest.say(Channel.CONTROL, ready(2) | {"emptied": True})
        await asyncio.wait_for(client.usable(), 5)
        assert (before, client.files_lost) == (False, True)
        assert [event.emptied for event in events.of(KernelReady)] == [False, True]


async def test_claims_of_an_end_that_nobody_asked_for() -> None:
    """A new kernel that was not ordered, and other cells' replies, change nothing for the running cell."""
    async with started() as (guest, client, events):
        task, parent = await begin(guest, client)
        await guest.say(Channel.CONTROL, ready(2))
        await guest.say(Channel.CONTROL, {"type": "restarted", "generation": 2})
        await reply(guest, "another")
        await idle(guest, "another")
        await asyncio.sleep(0.05)
        assert not task.done()
        assert (await finish(guest, task, parent)).lost is None
        assert len(events.of(KernelReady)) == 1


async def test_a_kernel_that_is_ready_without_its_context() -> None:
    """A guest that claims a ready kernel before it was told of the context broke the protocol."""
    async with guest_and_endpoint() as (guest, endpoint):
        KernelClient(endpoint)
        await guest.say(Channel.CONTROL, ready(1))
        assert isinstance(await asyncio.wait_for(endpoint.lost, 5), GuestProtocolError)


@pytest.mark.usefixtures("impatient")
async def test_an_old_kernels_death_is_no_news() -> None:
    """A kernel that dies while it is being replaced does not fail the new one."""
    async with started() as (guest, client, _):
        await deaf(guest, client)
        await guest.say(Channel.CONTROL, {"type": "kernel_died", "generation": 1, "code": -9, "oom": True})
        await guest.say(Channel.CONTROL, ready(2))
        await asyncio.wait_for(client.usable(), 5)
