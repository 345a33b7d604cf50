"""The bridge: who may call what and when, and what the guest is told."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from rlm_kernel.bridge import Bridge, KnownFailure, Models, Offer
from rlm_kernel.bridge.bridge import MAX_IN_FLIGHT, TAKEN_AT_ONCE
from rlm_kernel.errors import BudgetExceeded, GuestProtocolError, ModelRejected, RateLimited, StorageFull
from rlm_kernel.events import (
    AnyEvent,
    EventSink,
    Notice,
    SubcallFailed,
    SubcallRefused,
    SubcallReplied,
    SubcallRequested,
)
from rlm_kernel.guest.wire import Channel
from rlm_kernel.models.model import Completion, Model, ModelRequest
from rlm_kernel.stream import Endpoint
from tests.support.fakes import FakeModel, SilentModel, completion
from tests.support.guest import Guest, guest_and_endpoint
from tests.support.sinks import Events


@asynccontextmanager
async def bridged(
    model: Model, sink: EventSink, more: Models | None = None, children: Models | None = None
) -> AsyncIterator[tuple[Guest, Bridge, Endpoint]]:
    """Yield a guest whose sub-calls `model` answers while cell 1 runs."""
    async with (
        guest_and_endpoint() as (guest, endpoint),
        Bridge(
            endpoint, Offer({None: model, **(more or {})}, children or {}), sink, parallel=50, max_reply_tokens=100
        ) as bridge,
    ):
        with bridge.open_for(1):
            yield guest, bridge, endpoint


async def ask(guest: Guest, number: int, **fields: Any) -> None:
    """Send one sub-call."""
    await guest.say(Channel.SUBCALL, {"kind": "llm", "id": number, "prompt": "p", "model": None, **fields})


async def arrived(guest: Guest) -> None:
    """Wait until all that the guest has sent has arrived."""
    guest.wire.ping()
    while guest.wire.unanswered:
        await guest.flush()
        await guest.read_some()


async def test_an_answer_goes_back_and_is_recorded() -> None:
    """A sub-call is recorded before it is made, answered by the model, and its answer recorded."""
    model, events = FakeModel(["four"]), Events()
    async with bridged(model, events) as (guest, _, _):
        await ask(guest, 7, prompt="2+2")
        assert await guest.next(Channel.SUBCALL) == {"id": 7, "text": "four"}
    assert [type(event) for event in events.all] == [SubcallRequested, SubcallReplied]
    assert model.requests[0].messages[0].content == "2+2"
    assert model.requests[0].max_output_tokens == 100


async def test_calls_run_at_the_same_time() -> None:
    """A call that waits for its answer does not hold up another."""
    slow = SilentModel()
    async with bridged(slow, Events(), {"fast": FakeModel(["now"])}) as (guest, _, _):
        await ask(guest, 1)
        await asyncio.wait_for(slow.asked.wait(), 5)
        await ask(guest, 2, model="fast")
        assert await guest.next(Channel.SUBCALL) == {"id": 2, "text": "now"}
    assert slow.cancelled


@pytest.mark.parametrize("kind", ["llm", "rlm"])
async def test_no_cell_no_call(kind: str) -> None:
    """A sub-call that arrives while no cell runs is refused, recorded, and reaches neither model nor session."""
    model, events = FakeModel(["never"]), Events()
    offer = Offer({None: model}, {None: model})
    async with guest_and_endpoint() as (guest, endpoint), Bridge(endpoint, offer, events, parallel=50):
        await ask(guest, 1, kind=kind)
        reply = await guest.next(Channel.SUBCALL)
        assert reply["error"]["code"] == "refused"
    assert model.requests == []
    assert [event.cell for event in events.of(SubcallRefused)] == [None]


async def test_refusals_do_not_fill_the_recording() -> None:
    """However much is refused, the recording grows by a bounded amount, and the rest is counted."""
    events, model = Events(), FakeModel([])
    async with guest_and_endpoint() as (guest, endpoint), Bridge(endpoint, Offer({None: model}), events, parallel=50):
        for number in range(250):
            await ask(guest, number, prompt="x" * 50_000)
            assert (await guest.next(Channel.SUBCALL))["error"]["code"] == "refused"
    refused = events.of(SubcallRefused)
    assert len(refused) == 100
    assert {(len(event.prompt), event.prompt_length) for event in refused} == {(1000, 50_000)}
    assert "150 more" in events.of(Notice)[0].message


@pytest.mark.parametrize("asked", ["openai:gpt-5-pro", "x" * 100_000])
async def test_only_allowed_models_answer(asked: str) -> None:
    """A guest can't choose a model that the host does not list; a name of any length is told back and recorded cut."""
    model, events = FakeModel(["never"]), Events()
    async with bridged(model, events, {"a:b": model}) as (guest, _, _):
        await ask(guest, 1, model=asked)
        reply = await guest.next(Channel.SUBCALL)
        assert reply["error"]["code"] == "refused"
        assert asked[:100] in reply["error"]["message"]
        assert len(reply["error"]["message"]) < 300
    assert [event.asked for event in events.of(SubcallRefused)] == [asked[:1000]]
    assert model.requests == []


async def test_calls_over_the_limit_wait() -> None:
    """More sub-calls than may be under way at once are all answered, one after another."""
    model = FakeModel([str(number) for number in range(2500)])
    async with bridged(model, Events()) as (guest, _, _):
        for number in range(2500):
            guest.wire.send(Channel.SUBCALL, json.dumps({"kind": "llm", "id": number, "prompt": "p"}).encode())
        await guest.flush()
        answered = {(await guest.next(Channel.SUBCALL))["id"] for _ in range(2500)}
    assert answered == set(range(2500))


async def test_refusals_hold_up_nobody() -> None:
    """However many of those that wait are refused, those behind them are answered."""

    class Held(FakeModel):
        go = asyncio.Event()

        async def complete(self, request: ModelRequest) -> Completion:
            await self.go.wait()
            return completion("yes")

    model = Held([])
    async with bridged(model, Events()) as (guest, bridge, _), asyncio.timeout(20):
        for number in range(3000):
            refused = {"model": "another"} if 1000 <= number < 2999 else {}
            payload = json.dumps({"kind": "llm", "id": number, "prompt": "p", **refused}).encode()
            guest.wire.send(Channel.SUBCALL, payload)
        await guest.flush()
        while len(bridge._waiting) < 2000:
            await asyncio.sleep(0.01)
        model.go.set()
        replies = [await guest.next(Channel.SUBCALL) for _ in range(3000)]
    assert sorted(reply["id"] for reply in replies) == list(range(3000))
    assert {reply["id"] for reply in replies if "text" in reply} == {*range(1000), 2999}


async def test_a_malformed_call_that_waited_ends_the_session_too() -> None:
    """Broken messages behind those in flight are met at the cell's end, and the calls in flight still end."""
    model = SilentModel()
    async with (
        guest_and_endpoint() as (guest, endpoint),
        Bridge(endpoint, Offer({None: model}), Events(), parallel=50) as bridge,
    ):
        with bridge.open_for(1):
            for number in range(1000):
                await ask(guest, number)
            for _ in range(2):
                await guest.say(Channel.SUBCALL, b"broken")
            await asyncio.wait_for(model.asked.wait(), 5)
            while len(bridge._waiting) < 2:
                await asyncio.sleep(0.01)
    assert isinstance(endpoint.lost.result(), GuestProtocolError)
    assert model.cancelled


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RateLimited("429 from https://secret-host/v1 key sk-123"), "model_unavailable"),
        (ModelRejected("https://secret-host/v1 says no, key sk-123"), "failed"),
        (BudgetExceeded("sk-123"), "budget_exceeded"),
        (RuntimeError("/home/someone/secret-host sk-123"), "failed"),
    ],
)
async def test_errors_cross_as_codes(error: Exception, code: str) -> None:
    """The guest learns the kind of an error and none of its text; the recording has it whole."""
    events = Events()
    async with bridged(FakeModel([error]), events) as (guest, _, _):
        await ask(guest, 1)
        reply = await guest.next(Channel.SUBCALL)
    assert reply["error"]["code"] == code
    assert "secret-host" not in str(reply)
    assert "sk-123" not in str(reply)
    assert events.of(SubcallFailed)[0].message == str(error)


async def test_a_sub_call_ends_with_its_cell() -> None:
    """At a cell's end its sub-calls end: at the model, at the guest, in the recording; those that wait are refused."""
    model, events = SilentModel(), Events()
    async with (
        guest_and_endpoint() as (guest, endpoint),
        Bridge(endpoint, Offer({None: model}), events, parallel=50) as bridge,
    ):
        with bridge.open_for(1):
            for number in range(1001):
                await ask(guest, number)
            await asyncio.wait_for(model.asked.wait(), 5)
            while len(events.of(SubcallRequested)) < 1000:
                await asyncio.sleep(0.01)
        codes = [(await guest.next(Channel.SUBCALL))["error"]["code"] for _ in range(1001)]
    assert sorted(codes) == ["failed"] * 1000 + ["refused"]
    assert model.cancelled
    assert len(events.of(SubcallFailed)) == 1000


@pytest.mark.parametrize(
    "payload",
    [
        b'{"kind": "llm", "id": 1, "prompt": "p", "depth": 0}',
        b'{"kind": "rlm", "id": 1, "prompt": "p", "depth": 0}',
        b'{"kind": "rlm", "id": 1, "prompt": "p", "budget": 1e9}',
        b'{"kind": "rlm", "id": 1, "prompt": "p", "node": "s1"}',
        b'{"kind": "rlm", "id": 1, "prompt": "p", "context": [1,}',
        b'{"kind": "rlm", "id": 1, "prompt": "p", "context": "\xff"}',
        b'{"kind": "rlm", "id": 1, "prompt": "p", "context": ["\xff"]}',
        b'{"kind": "rlm", "id": 1, "prompt": "p", "context": "\\ud800"}',
        b'{"kind": "llm", "id": 1, "prompt": "p", "context": ""}',
        b'{"kind": "llm", "id": "1", "prompt": "p"}',
        b'{"kind": "llm", "id": -1, "prompt": "p"}',
        b'{"kind": "llm", "id": 1, "prompt": ""}',
        b'{"kind": "llm", "id": 1}',
        b'{"kind": "root", "id": 1, "prompt": "p"}',
        b'{"id": 1, "prompt": "p"}',
        b"\xff",
        b"[" * 60_000,
    ],
)
async def test_a_malformed_call_ends_the_session(payload: bytes) -> None:
    """Claims about depth or budget, wrong types and broken JSON are protocol errors, and no model is asked."""
    model = FakeModel(["never"])
    async with bridged(model, Events()) as (guest, _, endpoint):
        await guest.say(Channel.SUBCALL, payload)
        assert isinstance(await asyncio.wait_for(endpoint.lost, 5), GuestProtocolError)
    assert model.requests == []


async def test_a_replayed_request_ends_the_session() -> None:
    """Two sub-calls in flight may not have the same id."""
    async with bridged(SilentModel(), Events()) as (guest, _, endpoint):
        await ask(guest, 1)
        await ask(guest, 1)
        assert isinstance(await asyncio.wait_for(endpoint.lost, 5), GuestProtocolError)


async def test_a_recording_that_fails_ends_the_session() -> None:
    """When an answer can't be recorded the session ends with that error; nothing goes on unrecorded."""

    class Full(Events):
        def emit(self, event: AnyEvent, node: str = "") -> None:
            if isinstance(event, SubcallReplied):
                raise StorageFull("no room")
            super().emit(event, node)

    async with bridged(FakeModel(["a"]), Full()) as (guest, _, endpoint):
        await ask(guest, 1)
        assert isinstance(await asyncio.wait_for(endpoint.lost, 5), StorageFull)


async def test_a_cell_may_be_offered_other_models() -> None:
    """Other models stand in for one cell; their failures are told in their words, and the usual ones stay unasked."""
    usual, events = FakeModel(["usual"]), Events()
    async with (
        guest_and_endpoint() as (guest, endpoint),
        Bridge(endpoint, Offer({None: usual}), events, parallel=50) as bridge,
    ):
        recorded = FakeModel(["recorded", KnownFailure("model_unavailable", "as before")])
        with bridge.open_for(1, Offer({None: recorded})):
            await ask(guest, 1)
            assert await guest.next(Channel.SUBCALL) == {"id": 1, "text": "recorded"}
            await ask(guest, 2)
            error = {"code": "model_unavailable", "message": "as before"}
            assert await guest.next(Channel.SUBCALL) == {"id": 2, "error": error}
        assert usual.requests == []
        with bridge.open_for(2):
            await ask(guest, 3)
            assert await guest.next(Channel.SUBCALL) == {"id": 3, "text": "usual"}
    assert events.of(SubcallFailed)[0].told == "as before"


async def test_another_sandbox_takes_over() -> None:
    """A bridge that moves counts on, and no answer for the guest before reaches the one after."""
    model, events = SilentModel(), Events()
    async with (
        guest_and_endpoint() as (first, endpoint),
        guest_and_endpoint() as (second, another),
        Bridge(endpoint, Offer({None: model, "fast": FakeModel(["now"])}), events, parallel=50) as bridge,
    ):
        with bridge.open_for(1):
            await ask(first, 7)
            await asyncio.wait_for(model.asked.wait(), 5)
        endpoint.close()
        await asyncio.wait_for(bridge.move(another), 5)
        with bridge.open_for(2):
            await ask(second, 7, model="fast")
            assert await second.next(Channel.SUBCALL) == {"id": 7, "text": "now"}
    assert model.cancelled
    assert [event.call for event in events.of(SubcallRequested)] == ["s1", "s2"]


@pytest.mark.parametrize(
    ("fields", "context", "digest"),
    [
        ({}, None, None),
        ({"context": "grün"}, "grün", hashlib.sha256("grün".encode()).hexdigest()),
        ({"context": [1, {"a": None}]}, b'[1, {"a": null}]', hashlib.sha256(b'[1, {"a": null}]').hexdigest()),
    ],
)
async def test_a_child_gets_its_context(
    fields: dict[str, Any], context: str | bytes | None, digest: str | None
) -> None:
    """A question to a session goes to a model for those, with its context undecoded and its call."""
    model, child, events = FakeModel([]), FakeModel(["found"]), Events()
    async with bridged(model, events, children={None: child}) as (guest, _, _):
        await ask(guest, 1, kind="rlm", **fields)
        assert await guest.next(Channel.SUBCALL) == {"id": 1, "text": "found"}
    asked = child.requests[0].context
    assert (bytes(asked) if isinstance(asked, msgspec.Raw) else asked) == context
    assert (child.requests[0].call, child.requests[0].max_output_tokens) == ("s1", 100)
    (requested,) = events.of(SubcallRequested)
    assert (requested.kind, requested.context_digest, requested.prompt) == ("rlm", digest, "p")


async def test_what_is_known_of_an_answer_goes_along() -> None:
    """What a model says of its answer reaches the guest beside it."""
    child = FakeModel([replace(completion("plain"), note="by llm_query")])
    async with bridged(FakeModel([]), Events(), children={None: child}) as (guest, _, _):
        await ask(guest, 1, kind="rlm")
        assert await guest.next(Channel.SUBCALL) == {"id": 1, "text": "plain", "note": "by llm_query"}


async def test_no_child_below_the_depth_limit() -> None:
    """Where there may be no sessions below, a question to one is refused with its own code, whatever it claims."""
    model, events = FakeModel(["never"]), Events()
    async with bridged(model, events, {"a:b": model}) as (guest, _, _):
        await ask(guest, 1, kind="rlm", model="a:b", context="c")
        assert (await guest.next(Channel.SUBCALL))["error"]["code"] == "depth_exceeded"
    assert model.requests == []
    assert len(events.of(SubcallRefused)) == 1


async def test_children_leave_room_for_sub_calls() -> None:
    """Calls that wait for sessions take none of the room for parallel calls, however many they are."""
    child = SilentModel()
    async with bridged(FakeModel(["now"]), Events(), children={None: child}) as (guest, _, _):
        for number in range(60):
            await ask(guest, number, kind="rlm")
        await asyncio.wait_for(child.asked.wait(), 5)
        await ask(guest, 60)
        assert await guest.next(Channel.SUBCALL) == {"id": 60, "text": "now"}
    assert child.cancelled


async def test_what_waits_as_the_cell_ends_may_be_broken() -> None:
    """Calls that break the protocol while they wait end the session, and the bridge still sees to the end of all."""
    events, ended = Events(), 0

    class Slow(SilentModel):
        async def complete(self, request: ModelRequest) -> Completion:
            nonlocal ended
            try:
                return await super().complete(request)
            finally:
                await asyncio.sleep(0)
                ended += 1

    async with (
        guest_and_endpoint() as (guest, endpoint),
        Bridge(endpoint, Offer({}, {None: Slow()}), events, parallel=50) as bridge,
    ):
        with bridge.open_for(1):
            for number in [*range(MAX_IN_FLIGHT), 1, 2]:
                await ask(guest, number, kind="rlm")
            await arrived(guest)
            assert len(events.of(SubcallRequested)) == MAX_IN_FLIGHT
    assert isinstance(endpoint.lost.result(), GuestProtocolError)
    assert ended == len(events.of(SubcallFailed)) == MAX_IN_FLIGHT


async def test_many_that_wait_as_the_cell_ends_are_refused_in_turns() -> None:
    """They hold up nobody else, are none of the next cell's calls, and each is told."""
    events, late = Events(), 3 * TAKEN_AT_ONCE
    async with (
        guest_and_endpoint() as (guest, endpoint),
        Bridge(endpoint, Offer({None: SilentModel()}), events, parallel=50) as bridge,
    ):
        with bridge.open_for(1):
            for number in range(MAX_IN_FLIGHT + late):
                await ask(guest, number)
            await arrived(guest)
        assert bridge._calls == MAX_IN_FLIGHT + TAKEN_AT_ONCE
        with bridge.open_for(2, Offer({None: FakeModel(["next"])})):
            await ask(guest, MAX_IN_FLIGHT + late)
            said = [await guest.next(Channel.SUBCALL) for _ in range(MAX_IN_FLIGHT + late + 1)]
    assert [reply["text"] for reply in said if "text" in reply] == ["next"]
    assert sum(reply.get("error", {}).get("code") == "refused" for reply in said) == late
    assert {event.cell for event in events.of(SubcallRequested)} == {1, 2}
    assert {event.cell for event in events.of(SubcallRefused)} == {None}
