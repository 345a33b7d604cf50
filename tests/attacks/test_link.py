"""Frames written straight into the socket between kernel and relay, past the library that models are given."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from rlm_kernel.errors import GuestProtocolError
from rlm_kernel.events import SubcallRefused, SubcallReplied, SubcallRequested
from rlm_kernel.sandbox.spec import Carrier
from tests.attacks.conftest import assert_usable, program, run
from tests.docker.conftest import OpenSession
from tests.support.fakes import FakeModel
from tests.support.sinks import Events

LINK = program("link")
NONSENSE = (
    "b'GET / HTTP/1.1\\r\\n\\r\\n'",
    "frame(SUBCALL, b'x', length=2**32 - 1)",
    "frame(SUBCALL, b'x' * 262_144, MORE) * 40",
    "frame(SHELL, b'{}')",
    "frame(CONTROL, b'[' * 60_000)",
    "frame(SUBCALL, (2**31).to_bytes(4, 'big'), CREDIT)",
)


async def test_nonsense_on_the_link_costs_the_kernel(open_test_session: OpenSession, carrier: Carrier) -> None:
    """Whatever breaks the link's protocol ends that kernel, again and again, and the session goes on with a new one."""
    async with open_test_session(carrier=carrier) as session:
        for data in NONSENSE:
            result = await run(session, f"{LINK}\nlink().sendall({data})\nimport time; time.sleep(20)")
            assert result.status == "kernel_died", data
        await assert_usable(session)


@pytest.mark.parametrize(
    ("carrier", "claims"),
    [
        ("socket", "id=1, prompt='x', model=None, depth=0, budget=1e9"),
        ("attach", "id=1, prompt='x', model=None, max_output_tokens=10**9"),
        ("socket", "id=2**60, prompt='x'"),
        ("attach", "id=1, prompt='\\ud800'"),
    ],
)
async def test_claims_of_a_forged_sub_call_end_the_session(
    open_test_session: OpenSession, claims: str, events: Events, carrier: Carrier
) -> None:
    """A sub-call that says other things than the library's does reaches no model and ends the session, typed."""
    model = FakeModel(["never"])
    async with open_test_session(models={None: model}, carrier=carrier) as session:
        with pytest.raises(GuestProtocolError):
            await run(session, f"{LINK}\nlink().sendall(call({claims}))\nimport time; time.sleep(20)")
    assert model.requests == []
    assert not events.of(SubcallRequested)


async def test_a_forged_model_name_is_refused(open_test_session: OpenSession, events: Events) -> None:
    """Only the host's list says which models there are; a forged name is refused and recorded."""
    model = FakeModel(["never"])
    async with open_test_session(models={None: model}) as session:
        code = f"{LINK}\nlink().sendall(call(id=7, prompt='x', model='openai:gpt-5'))\nimport time; time.sleep(20)"
        result = await run(session, code)
        assert result.status == "kernel_died", "the answer's credit is more than the library sent"
        await assert_usable(session)
    assert model.requests == []
    assert [event.asked for event in events.of(SubcallRefused)] == ["openai:gpt-5"]


async def test_the_ids_of_other_calls_can_not_be_taken(open_test_session: OpenSession, events: Events) -> None:
    """A forged call under the library's next id ends the session or the kernel; the model answers each call once."""
    model = FakeModel(["forged", "asked"])
    async with open_test_session(models={None: model}) as session:
        code = f"{LINK}\nlink().sendall(call(id=1 << 32, prompt='forged'))\nllm_query('asked')"
        with suppress(GuestProtocolError):
            assert (await run(session, code)).status == "kernel_died"
    assert len(events.of(SubcallReplied)) <= 2


async def test_a_kernel_killed_with_calls_in_flight(open_test_session: OpenSession, carrier: Carrier) -> None:
    """Answers for a kernel that died are dropped; the next kernel's calls get their own answers."""

    class Slow(FakeModel):
        async def complete(self, request):  # type: ignore[no-untyped-def]
            await asyncio.sleep(0.2)
            return await super().complete(request)

    model = Slow([f"answer {number}" for number in range(200)])
    async with open_test_session(models={None: model}, carrier=carrier) as session:
        code = "import threading, os\nfor i in range(50): threading.Thread(target=llm_query, args=('old',)).start()\n"
        result = await run(session, code + "threading.Event().wait(0.1); os._exit(1)")
        assert result.status == "kernel_died"
        result = await run(session, "FINAL(llm_query_batched([f'{i}' for i in range(20)]))")
        assert result.final is not None
        answers = result.final.value
        assert isinstance(answers, list)
        assert len(set(map(str, answers))) == 20
        await assert_usable(session)
