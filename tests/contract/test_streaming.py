"""The promises of streamed replies, for both interfaces, against a real HTTP server."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing
from typing import Any

import pytest

from rlm_kernel.errors import ModelError, ModelRejected, ModelReplyInvalid, ModelTimeout, ModelUnavailable, RateLimited
from rlm_kernel.models.anthropic import AnthropicModel
from rlm_kernel.models.model import Completion, Model, ModelRequest, TextDelta
from rlm_kernel.models.openai import OpenAIModel
from rlm_kernel.models.provider import Provider
from rlm_kernel.types import Message
from tests.contract.conftest import MakeModel
from tests.support.provider_server import ProviderServer, Reply

TEXT = "four, no doubt: é\n" * 20
CALLS = [
    {"id": f"c{n}", "type": "function", "function": {"name": "python", "arguments": f'{{"code": "{n}"}}'}}
    for n in (1, 2)
]
BLOCKS: tuple[dict[str, Any], ...] = (
    {"type": "thinking", "thinking": "let me see", "signature": "s1gned"},
    {"type": "redacted_thinking", "data": "x"},
    *({"type": "tool_use", "id": f"c{n}", "name": "python", "input": {"code": str(n)}} for n in (1, 2)),
)
DETAILS = [
    {"type": "reasoning.text", "text": "let ", "index": 0},
    {"type": "reasoning.text", "text": "me see", "signature": "s1gned", "index": 0},
    {"type": "reasoning.encrypted", "data": "x", "index": 1},
]


def _openai(url: str, seconds: float = 10.0) -> Model:
    return OpenAIModel(Provider(name="openai:m", model="m", base_url=f"{url}/v1", seconds=seconds))


def _anthropic(url: str, seconds: float = 10.0) -> Model:
    return AnthropicModel(Provider(name="anthropic:m", model="m", base_url=url, seconds=seconds))


@pytest.fixture(params=[_openai, _anthropic], ids=["openai", "anthropic"])
def make_model(request: pytest.FixtureRequest) -> MakeModel:
    """Build a client for a server's address."""
    make: MakeModel = request.param
    return make


async def ask(model: Model) -> tuple[Completion, list[TextDelta]]:
    """Return a streamed reply and the pieces it came in."""
    pieces: list[TextDelta] = []
    request = ModelRequest(messages=(Message("user", "hello"),), on_text=pieces.append)
    return await model.complete(request), pieces


@pytest.mark.parametrize(
    "reply",
    [
        Reply(text=TEXT),
        Reply(text="look", message={"tool_calls": CALLS, "reasoning_content": "let me see"}, blocks=BLOCKS),
        Reply(text=None, message={"tool_calls": CALLS, "reasoning": "let me see"}, blocks=BLOCKS),
    ],
    ids=["text", "everything", "calls alone"],
)
async def test_a_streamed_reply_is_the_same_as_a_whole_one(model: Model, server: ProviderServer, reply: Reply) -> None:
    """Text, calls, reasoning, usage, reasons and names: a stream loses nothing."""
    server.replies += [reply, reply]
    whole = await model.complete(ModelRequest(messages=(Message("user", "hello"),)))
    streamed, _ = await ask(model)
    assert server.requests[1].body["stream"] is True
    assert "stream" not in server.requests[0].body
    assert streamed == whole


async def test_pieces_are_passed_on_by_kind(model: Model, server: ProviderServer) -> None:
    """Joined by their kind they are the text, the reasoning, and the arguments."""
    server.replies.append(
        Reply(text=TEXT, message={"tool_calls": CALLS, "reasoning_content": "let me see"}, blocks=BLOCKS)
    )
    _, pieces = await ask(model)

    def joined(kind: str) -> str:
        return "".join(piece.text for piece in pieces if piece.kind == kind)

    assert (joined("text"), joined("reasoning")) == (TEXT, "let me see")
    assert joined("arguments") == '{"code": "1"}{"code": "2"}'
    assert len(pieces) > len(TEXT) / 4


async def test_openrouters_details_are_put_together(server: ProviderServer) -> None:
    """Pieces of one detail become one, and its signature is kept."""
    server.replies.append(Reply(text="yes", message={"reasoning_details": DETAILS}))
    async with aclosing(_openai(server.url)) as model:
        completion, _ = await ask(model)
    assert completion.reasoning == {
        "reasoning_details": [
            {"type": "reasoning.text", "text": "let me see", "signature": "s1gned", "index": 0},
            {"type": "reasoning.encrypted", "data": "x", "index": 1},
        ]
    }


@pytest.mark.parametrize("index", [{}, {"index": 0}], ids=["none", "the same"])
async def test_calls_without_a_proper_index_are_told_apart(server: ProviderServer, index: dict[str, int]) -> None:
    """Some servers send each call whole, with no index, or with the same one."""
    lines = [
        _chunk({"tool_calls": [{**call, **index, "extra_content": {"google": {"thought_signature": call["id"]}}}]})
        for call in CALLS
    ]
    server.replies.append(Reply(body=b"".join([*lines, _chunk({}, "tool_calls"), b"data: [DONE]\n\n"])))
    async with aclosing(_openai(server.url)) as model:
        completion, _ = await ask(model)
    assert [(call.id, call.arguments) for call in completion.tool_calls] == [
        ("c1", '{"code": "1"}'),
        ("c2", '{"code": "2"}'),
    ]
    assert completion.tool_calls[1].extra == {"extra_content": {"google": {"thought_signature": "c2"}}}


PIECES: list[list[dict[str, Any]]] = [
    [
        {"function": {"name": "python", "arguments": '{"co'}},
        {"function": {"arguments": 'de": "1"}'}},
        {"function": None},
    ],
    [{"id": "c1", "function": {"arguments": '{"co'}}, {"id": "c1", "function": {"arguments": 'de": "1"}'}}],
    [{"index": 0, "id": "c1", "function": {"arguments": '{"code": "1"'}}, {"index": 0, "function": {"arguments": "}"}}],
]


@pytest.mark.parametrize("pieces", PIECES, ids=["no index, no id", "no index, the id each time", "as it should be"])
async def test_pieces_of_one_call_are_put_together(server: ProviderServer, pieces: list[dict[str, Any]]) -> None:
    """Whatever a server leaves out of them."""
    lines = [_chunk({"tool_calls": [piece]}) for piece in pieces]
    server.replies.append(Reply(body=b"".join([*lines, _chunk({}, "tool_calls")])))
    async with aclosing(_openai(server.url)) as model:
        completion, _ = await ask(model)
    assert [call.arguments for call in completion.tool_calls] == ['{"code": "1"}']


@pytest.mark.parametrize("index", [{}, {"index": 0}], ids=["none", "the same"])
async def test_whole_calls_without_ids_are_told_apart(server: ProviderServer, index: dict[str, int]) -> None:
    """Gemini has given several calls so: what begins after the end of a call's arguments is another call."""
    calls = [{**index, "id": "", "function": call["function"]} for call in CALLS]
    lines = [_chunk({"tool_calls": [call]}) for call in calls]
    server.replies.append(Reply(body=b"".join([*lines, _chunk({}, "tool_calls")])))
    async with aclosing(_openai(server.url)) as model:
        completion, _ = await ask(model)
    assert [(call.id, call.arguments) for call in completion.tool_calls] == [
        ("call_1", '{"code": "1"}'),
        ("call_2", '{"code": "2"}'),
    ]


BROKEN: list[tuple[Any, type[ModelError]]] = [
    ("truncated", ModelUnavailable),
    ("ended_early", ModelUnavailable),
    ("error_midway", ModelUnavailable),
    ("reset", ModelUnavailable),
]


@pytest.mark.parametrize(("fate", "kind"), BROKEN, ids=[fate for fate, _ in BROKEN])
async def test_a_stream_that_breaks_is_worth_a_retry(
    model: Model, server: ProviderServer, fate: Any, kind: type[ModelError]
) -> None:
    """A stream that ends before its reply does is never taken for an answer, however it ends."""
    server.replies.append(Reply(text=TEXT, fate=fate))
    with pytest.raises(kind, match=model.name):
        await ask(model)
    assert (await ask(model))[0].text == "ok"


async def test_a_stream_that_stalls_is_a_timeout(make_model: MakeModel, server: ProviderServer) -> None:
    """Silence between two pieces is limited, and the provider sees its client go."""
    server.replies.append(Reply(text=TEXT, fate="stalled_midway"))
    async with aclosing(make_model(server.url, seconds=0.3)) as model:
        start = time.monotonic()
        with pytest.raises(ModelTimeout, match=r"0\.3 s"):
            await ask(model)
        assert time.monotonic() - start < 5
        async with asyncio.timeout(5):
            await server.disconnected.wait()


async def test_a_slow_stream_may_take_longer_than_one_piece(make_model: MakeModel, server: ProviderServer) -> None:
    """The time limit is for each piece: a long reply that keeps coming is read to its end."""
    server.replies.append(Reply(text="x" * 60, delay=0.05))
    async with aclosing(make_model(server.url, seconds=0.7)) as model:
        completion, _ = await ask(model)
    assert completion.text == "x" * 60


async def test_a_cancel_ends_the_stream_at_the_provider(model: Model, server: ProviderServer) -> None:
    """Cancelling closes the connection: the provider sees its client go while the model stays usable."""
    server.replies.append(Reply(text=TEXT, fate="stalled_midway"))
    begun = asyncio.Event()
    request = ModelRequest(messages=(Message("user", "q"),), on_text=lambda piece: begun.set())
    async with asyncio.timeout(5):
        task = asyncio.ensure_future(model.complete(request))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.disconnected.wait()
    assert (await ask(model))[0].text == "ok"


@pytest.mark.parametrize("status", [400, 429, 500])
async def test_a_refused_stream_is_the_same_error_as_a_refused_request(
    model: Model, server: ProviderServer, status: int
) -> None:
    """Statuses mean what they mean without a stream."""
    server.replies.append(Reply(status=status, text="the reason given"))
    kind = {400: ModelRejected, 429: RateLimited, 500: ModelUnavailable}[status]
    with pytest.raises(kind, match="the reason given"):
        await ask(model)


@pytest.mark.parametrize("line", [b"data: {\n\n", b'data: "x"\n\n', b'data: {"choices": 1, "type": 1}\n\n'], ids=str)
async def test_nonsense_in_a_stream_is_worth_a_retry(model: Model, server: ProviderServer, line: bytes) -> None:
    """What is not the interface's is a `ModelReplyInvalid`."""
    server.replies.append(Reply(body=b"event: message_start\n" + line))
    with pytest.raises(ModelReplyInvalid, match=model.name):
        await ask(model)


async def test_many_streams_do_not_mix(model: Model, server: ProviderServer) -> None:
    """40 streams at once, a third of which break: each has its own text or its own error."""
    server.replies += [Reply(text=TEXT, fate="truncated" if n % 3 == 0 else "whole") for n in range(40)]
    results = await asyncio.gather(*(ask(model) for _ in range(40)), return_exceptions=True)
    failed = [result for result in results if isinstance(result, BaseException)]
    assert len(failed) == 14
    assert all(isinstance(error, ModelUnavailable) for error in failed)
    assert all(result[0].text == TEXT for result in results if not isinstance(result, BaseException))


def _chunk(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": delta, "finish_reason": finish_reason}]}).encode() + b"\n\n"
