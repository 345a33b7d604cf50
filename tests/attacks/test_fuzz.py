"""Fuzzing of what the host reads from a guest; `make soak` runs the same for longer."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from rlm_kernel.bridge import Bridge, Offer
from rlm_kernel.errors import RlmKernelError
from rlm_kernel.events import AnyEvent
from rlm_kernel.guest.wire import CREDIT, FLAG_CREDIT, FRAME_LIMIT, HEADER, LIMITS, Channel, Wire, WireError
from rlm_kernel.kernel import Binding, BoundContext, CellResult, KernelClient
from rlm_kernel.kernel.chunked import CHUNKED_MIME
from rlm_kernel.models.model import Completion, ModelRequest
from rlm_kernel.recording.log import _encodable
from rlm_kernel.types import Usage
from tests.support.guest import Guest, guest_and_endpoint
from tests.support.sinks import Events

short = settings(max_examples=200, suppress_health_check=list(HealthCheck))

frames = st.builds(
    lambda channel, flags, payload, lie: HEADER.pack(len(payload) + lie, channel, flags) + payload,
    st.sampled_from([*Channel, 5, 255]),
    st.sampled_from([0, 0, 0, 1, 1, FLAG_CREDIT, 3, 255]),
    st.one_of(
        st.binary(max_size=40),
        st.integers(0, 2**32 - 1).map(CREDIT.pack),
        st.sampled_from([bytes(FRAME_LIMIT), bytes(1000)]),
    ),
    st.sampled_from([0] * 20 + [1, FRAME_LIMIT]),
)


def test_any_frames_stay_within_the_windows() -> None:
    """Whatever frames arrive, however cut, the wire raises `WireError` only, and never holds more than its windows."""
    short(ANY_FRAMES(check_frames))()


ANY_FRAMES = given(st.lists(frames, max_size=60), st.lists(st.integers(1, 3 * FRAME_LIMIT), max_size=20), st.booleans())


def check_frames(sent: list[bytes], cuts: list[int], releases: bool) -> None:
    """Let a wire read frames."""
    wire, data, held = Wire(), b"".join(sent), 0
    for size in [*cuts, len(data)]:
        try:
            messages = wire.receive(data[:size])
        except WireError:
            event("refused")
            return
        data = data[size:]
        for message in messages:
            assert len(message.payload) <= LIMITS[message.channel].message
            if releases:
                wire.release(message)
            else:
                held += message.cost
        assert held <= sum(limit.window for limit in LIMITS.values())
        assert len(wire._buffer) <= HEADER.size + FRAME_LIMIT
    event("taken")


odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=300),
    st.sampled_from(["stdout", "ok", "idle", "execute_reply", "status", "FINAL", 2**63, -(2**70), 1e308, "\ud800"]),
)
values = st.recursive(odd, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner))
control: list[dict[str, Any]] = [
    {"type": "kernel_ready", "generation": 1, "context_type": "str", "context_length": 7},
    {"type": "bind_failed", "message": "no"},
    {"type": "kernel_died", "generation": 1, "code": 1, "oom": True},
    {"type": "cut", "cell_msg_id": "CELL", "bytes": 5, "messages": 1},
    {"type": "hello", "protocol": 1, "facts": {}},
]
final = {"final": {"value": 1, "source": "FINAL"}, "names": ["x"]}
mime = "application/vnd.rlm-kernel.cell+json"
contents: dict[str, dict[str, Any]] = {
    "stream": {"name": "stdout", "text": "x"},
    "display_data": {"data": {"text/plain": "x"}, "metadata": {}, "transient": {"display_id": "d"}},
    "update_display_data": {"data": {"text/plain": "y"}, "metadata": {}, "transient": {"display_id": "d"}},
    "execute_result": {"data": {"text/plain": "x"}, "metadata": {}, "execution_count": 1},
    "error": {"ename": "E", "evalue": "v", "traceback": ["t"]},
    "clear_output": {"wait": True},
    "status": {"execution_state": "busy"},
    "execute_reply": {
        "status": "ok",
        "execution_count": 1,
        "rlm_cut": 3,
        "user_expressions": {"rlm": {"status": "ok", "data": {mime: final}, "metadata": {}}},
    },
}
chunked = {"strategy": "lines", "chunks": 1, "characters": 1, "shortest": 1, "longest": 1, "size": 9, "overlap": 0}
jupyter: list[dict[str, Any]] = [
    {
        "header": {"msg_id": "m", "msg_type": kind},
        "parent_header": {"msg_id": "CELL"},
        "metadata": {},
        "content": content,
    }
    for kind, content in [("display_data", {"data": {CHUNKED_MIME: chunked}}), *contents.items()]
]
subcalls: list[dict[str, Any]] = [
    {"kind": "llm", "id": 1, "prompt": "p", "model": None},
    {"kind": "llm", "id": 2, "prompt": "p", "model": "other"},
    {"kind": "rlm", "id": 3, "prompt": "p", "model": None, "context": {"text": ["c"]}},
]
seeds: dict[Channel, list[dict[str, Any]]] = {
    Channel.CONTROL: control,
    Channel.SHELL: jupyter,
    Channel.IOPUB: jupyter,
    Channel.SUBCALL: subcalls,
}


@st.composite
def messages(draw: st.DrawFn) -> tuple[Channel, bytes]:
    """Draw a message that a guest might send, most often with one thing in it that is wrong."""
    channel = draw(st.sampled_from(list(seeds)))
    value = json.loads(json.dumps(draw(st.sampled_from(seeds[channel]))))
    change = draw(st.sampled_from(["nothing"] * 8 + ["field"] * 6 + ["bytes", "value"]))
    if change == "field":
        place = value
        while isinstance(place, dict) and place:
            key = draw(st.sampled_from(sorted(place)))
            if not isinstance(place[key], dict) or draw(st.booleans()):
                place[draw(st.sampled_from([key, key, "more"]))] = draw(values)
                break
            place = place[key]
    elif change == "value":
        value = draw(values)
    data = json.dumps(value).encode()
    if change == "bytes":
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=5)) + data[at + draw(st.integers(0, 3)) :]
    return channel, data or b" "


class Echo:
    """Answers with the prompt."""

    name = "echo:echo"

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer one request."""
        return Completion(text=request.messages[0].content, finish_reason="stop", usage=Usage(), served_by="echo")

    async def aclose(self) -> None:
        """Close nothing."""


class Encoded(Events):
    """Writes each event as a recording does, and keeps none."""

    def emit(self, event: AnyEvent, node: str = "") -> None:
        """Write `event`."""
        msgspec.json.encode(_encodable(msgspec.to_builtins(event)))


async def one_session(sent: list[tuple[Channel, bytes]]) -> CellResult | RlmKernelError:
    """Run a cell in a session whose guest says what was drawn, ends the cell properly, and goes."""
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
    async with guest_and_endpoint() as (guest, endpoint):
        client = KernelClient(endpoint)
        starting = asyncio.ensure_future(
            client.start(Binding((BoundContext(kind="str", size=7, index_size=0),)), Encoded())
        )
        await guest.next(Channel.CONTROL)
        await guest.say(Channel.CONTROL, control[0])
        await starting
        async with Bridge(endpoint, Offer({None: Echo()}, {None: Echo()}), Encoded(), parallel=50) as bridge:
            with bridge.open_for(1):
                running = asyncio.ensure_future(client.run("1", cell=1, turn=1, time_limit=60))
                request = await guest.next(Channel.SHELL)
                await speak(guest, sent, request["header"]["msg_id"])
                result: CellResult | RlmKernelError
                try:
                    result = await asyncio.wait_for(running, 10)
                except RlmKernelError as error:
                    result = error
    assert failures == []
    return result


async def speak(guest: Guest, sent: list[tuple[Channel, bytes]], cell: str) -> None:
    """Say everything as far as the host listens, and close."""
    end = [
        (Channel.SHELL, json.dumps(jupyter[-1]).encode()),
        (Channel.IOPUB, json.dumps(jupyter[-2]).replace("busy", "idle").encode()),
    ]
    try:
        for channel, data in [*sent, *end]:
            await guest.say(channel, data.replace(b"CELL", cell.encode()))
    except ConnectionError:
        return
    await guest.close()


def test_any_messages_end_a_cell_or_the_session() -> None:
    """Whatever a guest says, a cell has a result or the session ends with an error of ours, within seconds."""
    short(ANY_MESSAGES(check_messages))()


ANY_MESSAGES = given(st.lists(messages(), max_size=6))


def check_messages(sent: list[tuple[Channel, bytes]]) -> None:
    """Let a session hear messages."""
    outcome = asyncio.run(one_session(sent))
    event(type(outcome).__name__)
    if isinstance(outcome, CellResult):
        json.dumps(outcome.outputs).encode()
