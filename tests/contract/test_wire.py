"""What reaches a provider and what comes back, in both interfaces' own shapes, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from rlm_kernel.errors import ModelError, ModelRejected, ModelUnavailable, RateLimited
from rlm_kernel.models.anthropic import AnthropicModel
from rlm_kernel.models.model import Model, ModelRequest
from rlm_kernel.models.openai import OpenAIModel
from rlm_kernel.models.provider import Provider
from rlm_kernel.types import JSON, Image, Message, Tool, ToolCall
from tests.support.provider_server import ProviderServer, Reply

PYTHON = Tool("python", "Runs code.", {"type": "object", "properties": {"code": {"type": "string"}}})
PNG = Image("image/png", b"\x89PNG")


@pytest.fixture
async def server() -> AsyncIterator[ProviderServer]:
    """A provider that runs."""
    async with ProviderServer().run() as server:
        yield server


@pytest.fixture
async def openai(server: ProviderServer) -> AsyncIterator[Model]:
    """A client of OpenAI's interface."""
    async with aclosing(OpenAIModel(Provider(name="openai:m", model="m", base_url=f"{server.url}/v1"))) as model:
        yield model


@pytest.fixture
async def anthropic(server: ProviderServer) -> AsyncIterator[Model]:
    """A client of Anthropic's interface."""
    async with aclosing(AnthropicModel(Provider(name="anthropic:m", model="m", base_url=server.url))) as model:
        yield model


def openai_reply(**message: Any) -> Reply:
    """Return a reply with these fields in its message."""
    choice = {"finish_reason": "tool_calls" if "tool_calls" in message else "stop", "message": message}
    return Reply(body=json.dumps({"choices": [choice]}).encode())


def anthropic_reply(*blocks: dict[str, Any], stop_reason: str = "tool_use") -> Reply:
    """Return a reply with these blocks."""
    return Reply(body=json.dumps({"content": blocks, "stop_reason": stop_reason}).encode())


async def test_images_are_data_urls_for_openai(openai: Model, server: ProviderServer) -> None:
    """A user's images follow the text as parts of the type `image_url`."""
    await openai.complete(ModelRequest(messages=(Message("user", "what?", images=(PNG,)),)))
    assert server.requests[0].body["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "what?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
            ],
        }
    ]


async def test_images_are_base64_blocks_for_anthropic(anthropic: Model, server: ProviderServer) -> None:
    """A user's images stand before the text as blocks of the type `image`."""
    await anthropic.complete(ModelRequest(messages=(Message("user", "what?", images=(PNG,)),)))
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw=="}
    assert server.requests[0].body["messages"] == [
        {"role": "user", "content": [{"type": "image", "source": source}, {"type": "text", "text": "what?"}]}
    ]


async def test_tools_go_out_and_calls_come_back_in_openais_shape(openai: Model, server: ProviderServer) -> None:
    """Tools are functions; a call comes back with id, name, arguments and what the provider added; so it goes out."""
    signature: JSON = {"google": {"thought_signature": "abc"}}
    call = {
        "id": "c1",
        "type": "function",
        "function": {"name": "python", "arguments": '{"code": "1"}'},
        "extra_content": signature,
    }
    server.replies.append(openai_reply(content=None, tool_calls=[call]))
    completion = await openai.complete(ModelRequest(messages=(Message("user", "q"),), tools=(PYTHON,)))
    expected = ToolCall("c1", "python", '{"code": "1"}', extra={"extra_content": signature})
    assert (completion.text, completion.finish_reason, completion.tool_calls) == ("", "tool_calls", (expected,))
    assert server.requests[0].body["tools"] == [
        {
            "type": "function",
            "function": {"name": "python", "description": "Runs code.", "parameters": PYTHON.parameters},
        }
    ]
    history = (
        Message("user", "q"),
        Message("assistant", "", tool_calls=completion.tool_calls),
        Message("tool", "out", tool_call_id="c1"),
    )
    await openai.complete(ModelRequest(messages=history, tools=(PYTHON,)))
    assert server.requests[1].body["messages"][1:] == [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "out"},
    ]


async def test_servers_that_bend_tool_calls_are_understood(openai: Model, server: ProviderServer) -> None:
    """A call without an id gets one, and arguments as an object or null become text."""
    calls = [{"function": {"name": "python", "arguments": given}} for given in ({"code": "1"}, None)]
    server.replies.append(openai_reply(content="", tool_calls=calls))
    completion = await openai.complete(ModelRequest(messages=(Message("user", "q"),), tools=(PYTHON,)))
    assert completion.tool_calls == (
        ToolCall("call_1", "python", '{"code": "1"}'),
        ToolCall("call_2", "python", ""),
    )


PARTS: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
    {"type": "text", "text": "the "},
    {"type": "text", "text": "answer"},
]


async def test_text_in_parts_is_put_together(openai: Model, server: ProviderServer) -> None:
    """Mistral's models give their text in parts, and their thinking as others, which are not of it."""
    chunks: list[dict[str, Any]] = [
        {"choices": [{"delta": {"content": [part]}, "finish_reason": None}]} for part in PARTS
    ]
    chunks.append({"choices": [{"delta": {"content": "."}, "finish_reason": "stop"}]})
    streamed = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
    server.replies += [openai_reply(content=PARTS), Reply(body=streamed)]
    request = ModelRequest(messages=(Message("user", "q"),))
    assert (await openai.complete(request)).text == "the answer"
    assert (await openai.complete(replace(request, on_text=lambda piece: None))).text == "the answer."


MIDWAY: list[tuple[dict[str, Any], type[ModelError]]] = [
    ({"error": {"code": 502, "message": "the reason given"}}, ModelUnavailable),
    ({"error": {"code": 429, "message": "the reason given"}}, RateLimited),
    ({"error": {"code": 403, "message": "the reason given"}}, ModelRejected),
    ({"choices": [{"message": {"content": "half of"}, "finish_reason": "error"}]}, ModelUnavailable),
]


@pytest.mark.parametrize(("body", "kind"), MIDWAY, ids=str)
async def test_a_failure_with_a_good_status_is_no_reply(
    openai: Model, server: ProviderServer, body: dict[str, Any], kind: type[ModelError]
) -> None:
    """OpenRouter says so what fails after a reply had begun; half of a reply is never taken for an answer."""
    server.replies.append(Reply(body=json.dumps(body).encode()))
    with pytest.raises(kind, match=r"broke its reply off: the reason given|broke its reply off; try"):
        await openai.complete(ModelRequest(messages=(Message("user", "q"),)))


async def test_usage_without_numbers_is_read(openai: Model, server: ProviderServer) -> None:
    """It counts as not told, and does not spoil the reply."""
    body = {"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": None}}
    server.replies.append(Reply(body=json.dumps(body).encode()))
    completion = await openai.complete(ModelRequest(messages=(Message("user", "q"),)))
    assert (completion.text, completion.usage.total_tokens) == ("yes", 0)


async def test_tools_go_out_and_calls_come_back_in_anthropics_shape(anthropic: Model, server: ProviderServer) -> None:
    """Calls are `tool_use` blocks, and all their results and what is said next are one user message."""
    server.replies.append(
        anthropic_reply(
            {"type": "text", "text": "look"},
            {"type": "tool_use", "id": "t1", "name": "python", "input": {"code": "é"}},
            {"type": "tool_use", "id": "t2", "name": "python", "input": {}},
        )
    )
    completion = await anthropic.complete(ModelRequest(messages=(Message("user", "q"),), tools=(PYTHON,)))
    assert (completion.text, completion.finish_reason) == ("look", "tool_calls")
    assert completion.tool_calls == (ToolCall("t1", "python", '{"code": "é"}'), ToolCall("t2", "python", "{}"))
    assert server.requests[0].body["tools"] == [
        {"name": "python", "description": "Runs code.", "input_schema": PYTHON.parameters}
    ]
    history = (
        Message("user", "q"),
        Message("assistant", "look", tool_calls=completion.tool_calls),
        Message("tool", "out", tool_call_id="t1"),
        Message("tool", "none", tool_call_id="t2"),
        Message("user", "and?"),
    )
    await anthropic.complete(ModelRequest(messages=history, tools=(PYTHON,)))
    assert server.requests[1].body["messages"] == [
        {"role": "user", "content": "q"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "tool_use", "id": "t1", "name": "python", "input": {"code": "é"}},
                {"type": "tool_use", "id": "t2", "name": "python", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "out"},
                {"type": "tool_result", "tool_use_id": "t2", "content": "none"},
                {"type": "text", "text": "and?"},
            ],
        },
    ]


async def test_thinking_goes_back_to_anthropic_as_it_came(anthropic: Model, server: ProviderServer) -> None:
    """The blocks of a reply with thinking are kept whole and in order, but for blank texts, and sent unchanged."""
    blocks: list[dict[str, Any]] = [
        {"type": "thinking", "thinking": "hm", "signature": "s1g"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "text", "text": "look"},
        {"type": "tool_use", "id": "t1", "name": "python", "input": {"code": "1"}},
    ]
    server.replies.append(anthropic_reply(*blocks, {"type": "text", "text": ""}, {"type": "text", "text": "\n\n"}))
    completion = await anthropic.complete(ModelRequest(messages=(Message("user", "q"),), tools=(PYTHON,)))
    assert completion.text.strip() == "look"
    assert completion.reasoning == blocks
    answer = Message("assistant", "look", tool_calls=completion.tool_calls, reasoning=completion.reasoning)
    await anthropic.complete(ModelRequest(messages=(Message("user", "q"), answer, Message("user", "go on"))))
    assert server.requests[1].body["messages"][1] == {"role": "assistant", "content": blocks}


REASONING: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"reasoning_content": "hm"}, {"reasoning_content": "hm"}, {}),
    ({"reasoning_content": ""}, {"reasoning_content": ""}, {}),
    ({"reasoning": "hm"}, {"reasoning": "hm"}, {}),
    (
        {"reasoning": "hm", "reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]},
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]},
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]},
    ),
    ({"reasoning_content": None}, {}, {}),
]


@pytest.mark.parametrize(("given", "with_tools", "without"), REASONING, ids=str)
async def test_reasoning_goes_back_where_it_is_wanted(
    openai: Model, server: ProviderServer, given: dict[str, Any], with_tools: dict[str, Any], without: dict[str, Any]
) -> None:
    """Reasoning as text goes back in conversations with tools alone, OpenRouter's details always, and nothing twice."""
    server.replies.append(openai_reply(content="yes", **given))
    completion = await openai.complete(ModelRequest(messages=(Message("user", "q"),)))
    history = (Message("user", "q"), Message("assistant", "yes", reasoning=completion.reasoning), Message("user", "?"))
    for tools, expected in (((PYTHON,), with_tools), ((), without)):
        await openai.complete(ModelRequest(messages=history, tools=tools))
        assert server.requests[-1].body["messages"][1] == {"role": "assistant", "content": "yes", **expected}


async def test_only_what_comes_back_is_cached_at_anthropic(anthropic: Model, server: ProviderServer) -> None:
    """A conversation is marked up to its end and, for other sessions, its system prompt; a lone prompt is not."""
    await anthropic.complete(ModelRequest(messages=(Message("user", "q"),)))
    assert "cache_control" not in json.dumps(server.requests[0].body)
    await anthropic.complete(ModelRequest(messages=(Message("system", "s"), Message("user", "q"))))
    body = server.requests[1].body
    assert body["cache_control"] == {"type": "ephemeral"}
    assert body["system"] == [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}]
    assert "cache_control" not in json.dumps(body["messages"])


async def test_fields_of_the_providers_own_are_sent(openai: Model, anthropic: Model, server: ProviderServer) -> None:
    """`extra` fields stand in the body as they are."""
    for model in (openai, anthropic):
        await model.complete(ModelRequest(messages=(Message("user", "q"),), extra={"service_tier": "flex"}))
        assert server.requests[-1].body["service_tier"] == "flex"
