"""Every request of a conversation begins with the one before, byte for byte, so that providers' caches find it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from rlm_kernel.controller import ContextSummary, Controller, ControllerLimits
from rlm_kernel.controller.profile import find_profile
from rlm_kernel.models.anthropic import AnthropicModel
from rlm_kernel.models.model import Model, TextDelta
from rlm_kernel.models.openai import OpenAIModel
from rlm_kernel.models.provider import Provider
from tests.support.fakes import FakeCells, ListSink, cell_ok
from tests.support.provider_server import ProviderServer, Received, Reply

CONTEXT = ContextSummary(type_name="str", length=9, unit="characters", total_chars=9, preview="é\u2028")
TURNS = 6


@pytest.fixture
async def server() -> AsyncIterator[ProviderServer]:
    """A provider that runs."""
    async with ProviderServer().run() as server:
        yield server


@pytest.fixture(params=["openai", "anthropic"])
async def model(request: pytest.FixtureRequest, server: ProviderServer) -> AsyncIterator[Model]:
    """A client of the running provider."""
    made: Model
    if request.param == "openai":
        made = OpenAIModel(Provider(name="openai:m", model="m", base_url=f"{server.url}/v1"))
    else:
        made = AnthropicModel(Provider(name="anthropic:m", model="m", base_url=server.url))
    async with aclosing(made) as model:
        yield model


def fenced(turn: int) -> Reply:
    """Return a reply with a cell, thought about."""
    return Reply(text=f"Let me see, é.\n```repl\nlook({turn})\n```", message={"reasoning_content": "hm"})


def calling(turn: int) -> Reply:
    """Return a reply with two calls and reasoning, in both interfaces' shapes."""
    ids = [f"c{turn}-{n}" for n in (1, 2)]
    arguments = json.dumps({"code": f"look({turn}) # é"}, ensure_ascii=False)
    return Reply(
        text="Let me see.",
        message={
            "tool_calls": [
                {"id": call, "type": "function", "function": {"name": "python", "arguments": arguments}} for call in ids
            ],
            "reasoning_content": "hm",
        },
        blocks=(
            {"type": "thinking", "thinking": "hm", "signature": "s1gned"},
            *({"type": "tool_use", "id": call, "name": "python", "input": json.loads(arguments)} for call in ids),
        ),
    )


def begins_with(before: Received, after: Received) -> bool:
    """Tell whether a request's messages, as they were sent, begin with those of the one before, and all else is equal.

    The whole body is looked at, but for what comes after the messages.
    """
    ends = []
    for sent in (before, after):
        messages = json.dumps(sent.body["messages"], ensure_ascii=False, separators=(",", ":")).encode()
        assert messages in sent.raw
        ends.append(sent.raw[: sent.raw.index(messages) + len(messages) - 1])
    rest = [{name: value for name, value in sent.body.items() if name != "messages"} for sent in (before, after)]
    return ends[1].startswith(ends[0]) and rest[0] == rest[1]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("tools", [False, True], ids=["fences", "tools"])
async def test_requests_begin_with_the_one_before(
    model: Model, server: ProviderServer, tools: bool, streamed: bool
) -> None:
    """All of them, over two questions, with calls, reasoning and the provider's marks for its cache."""
    make = calling if tools else fenced
    server.replies += [*map(make, range(TURNS)), Reply(text="FINAL(one)"), make(7), Reply(text="FINAL(two)")]
    profile = replace(find_profile("fake:m"), tools=tools)
    pieces: list[TextDelta] = []
    on_text = pieces.append if streamed else None
    cells = FakeCells(lambda code: cell_ok(f"output of {code} é"))
    controller = Controller(model, cells, ListSink(), ControllerLimits(), profile, on_text)
    assert (await controller.answer("First?", CONTEXT)).answer == "one"
    assert (await controller.answer("Second?", CONTEXT)).answer == "two"
    assert len(server.requests) == TURNS + 3
    assert [begins_with(before, after) for before, after in pairwise(server.requests)] == [True] * (TURNS + 2)


async def test_only_a_compaction_begins_anew(model: Model, server: ProviderServer) -> None:
    """The request right after it keeps the prompt and the question; those that follow begin with the one before."""
    window = 3_000
    profile = replace(find_profile("fake:m"), tools=True, window=window)

    def answer(body: dict[str, Any]) -> Reply:
        """Write notes where they are asked for, and look around until the sixth turn."""
        tokens = len(json.dumps(body["messages"])) // 3
        if "Write down" in json.dumps(body["messages"][-1]):
            return Reply(text="My notes.", input_tokens=tokens)
        if len(server.requests) > 8:
            return Reply(text="FINAL(done)")
        return replace(calling(len(server.requests)), input_tokens=tokens)

    server._answer = answer
    cells = FakeCells(lambda code: cell_ok("x" * 1_500))
    outcome = await Controller(model, cells, ListSink(), ControllerLimits(), profile).answer("?", CONTEXT)
    assert outcome.answer == "done"
    same = [begins_with(before, after) for before, after in pairwise(server.requests)]
    notes = [n for n, sent in enumerate(server.requests) if "Write down" in json.dumps(sent.body["messages"][-1])]
    assert notes
    assert [place + 1 for place, kept in enumerate(same) if not kept] == [n + 1 for n in notes]
    first = server.requests[0].body["messages"]
    assert all(sent.body["messages"][: len(first)] == first for sent in server.requests)
