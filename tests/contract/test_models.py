"""The promises of every provider client, kept against a real HTTP server that speaks the provider's interface."""

from __future__ import annotations

import asyncio
import email.utils
import gc
import json
import socket
import time
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel.assembly.clients import OpenedModel
from rlm_kernel.assembly.models import Chain
from rlm_kernel.errors import (
    ModelAuthError,
    ModelError,
    ModelRejected,
    ModelReplyInvalid,
    ModelTimeout,
    ModelUnavailable,
    PromptTooLong,
    RateLimited,
    RetryableModelError,
    ToolsRefused,
)
from rlm_kernel.models.anthropic import AnthropicModel
from rlm_kernel.models.gate import Gate
from rlm_kernel.models.metering import Meter, unknown
from rlm_kernel.models.model import Model, ModelRequest
from rlm_kernel.models.openai import OpenAIModel
from rlm_kernel.models.provider import Provider
from rlm_kernel.models.recall import Recall
from rlm_kernel.models.retry import RetryPolicy
from rlm_kernel.models.store import AnswerStore
from rlm_kernel.models.turns import Rates
from rlm_kernel.types import Message, Usage
from tests.contract.conftest import MakeModel
from tests.support.provider_server import CACHED_TOKENS, INPUT_TOKENS, OUTPUT_TOKENS, ProviderServer, Reply

KEY = "sk-very-secret-key-0123456789"
ASK = ModelRequest(messages=(Message("user", "hello"),))


def _openai(url: str, seconds: float = 10.0) -> Model:
    return OpenAIModel(
        Provider(name="openai:m", model="m", base_url=f"{url}/v1", api_key=KEY, key_name="THE_KEY", seconds=seconds)
    )


def _anthropic(url: str, seconds: float = 10.0) -> Model:
    return AnthropicModel(
        Provider(name="anthropic:m", model="m", base_url=url, api_key=KEY, key_name="THE_KEY", seconds=seconds)
    )


def _wrapped(folder: Path, url: str, seconds: float = 10.0) -> Model:
    """Return a client with all that a run puts around it, for one attempt."""
    opened = OpenedModel(_openai(url, seconds), unknown, identity={"address": url})
    chain = Chain(
        policy=RetryPolicy(attempts=1),
        meter=Meter(),
        room=Gate("a run"),
        recall=Recall(store=AnswerStore(folder, 2**20), writes=True),
    )
    rates = Rates(concurrency=1000, requests_per_minute=1_000_000, tokens_per_minute=1_000_000_000)
    return chain.around(opened, Gate(url, rates))


@pytest.fixture(params=["openai", "anthropic", "openai in a run"])
def make_model(request: pytest.FixtureRequest, tmp_path: Path) -> MakeModel:
    """Build a client for a server's address."""
    makers: dict[str, MakeModel] = {
        "openai": _openai,
        "anthropic": _anthropic,
        "openai in a run": partial(_wrapped, tmp_path),
    }
    return makers[request.param]


async def test_a_reply_has_text_reason_and_origin(model: Model, server: ProviderServer) -> None:
    """A reply carries its text, why it ended in one vocabulary, who served it, and the provider's id for it."""
    server.replies.append(Reply(text="four, no doubt"))
    completion = await model.complete(ASK)
    assert completion.text == "four, no doubt"
    assert completion.finish_reason == "stop"
    assert completion.served_by.startswith("m-2026")
    assert completion.reply_id in {"chatcmpl-1", "msg_1"}
    assert completion.attempts == 1


async def test_usage_counts_the_call_and_its_tokens(model: Model) -> None:
    """Input tokens include the cached ones, and the cost is left unknown to the client."""
    completion = await model.complete(ASK)
    assert completion.usage == Usage(
        calls=1,
        input_tokens=INPUT_TOKENS,
        cached_input_tokens=CACHED_TOKENS,
        output_tokens=OUTPUT_TOKENS,
        cost_usd=None,
    )


async def test_the_conversation_arrives_in_order(model: Model, server: ProviderServer) -> None:
    """Roles, order and text reach the provider unchanged; Anthropic gets the system text in its own field."""
    request = ModelRequest(
        messages=(
            Message("system", "be brief"),
            Message("user", "é\n\ud7ff 1"),
            Message("assistant", "2"),
            Message("user", "3"),
        )
    )
    await model.complete(request)
    body = server.requests[0].body
    if "anthropic" in model.name:
        sent = [{"role": "system", "content": body["system"][0]["text"]}, *body["messages"]]
    else:
        sent = body["messages"]
    assert sent == [{"role": message.role, "content": message.content} for message in request.messages]


async def test_the_output_limit_is_sent(model: Model, server: ProviderServer) -> None:
    """A limit on the output goes to the provider; without one Anthropic gets its default and others none."""
    await model.complete(ModelRequest(messages=ASK.messages, max_output_tokens=77))
    await model.complete(ASK)
    limited, free = (request.body.get("max_tokens") for request in server.requests)
    assert limited == 77
    assert free == (8192 if "anthropic" in model.name else None)


async def test_a_reply_cut_by_its_limit_says_so(model: Model, server: ProviderServer) -> None:
    """A reply that ran into its limit is a reply, with the finish reason "length"."""
    server.replies.append(Reply(finish_reason="max_tokens" if "anthropic" in model.name else "length"))
    assert (await model.complete(ASK)).finish_reason == "length"


STATUSES: list[tuple[int, type[ModelError], bool]] = [
    (400, ModelRejected, False),
    (401, ModelAuthError, False),
    (403, ModelAuthError, False),
    (404, ModelRejected, False),
    (408, ModelUnavailable, True),
    (413, PromptTooLong, False),
    (422, ModelRejected, False),
    (429, RateLimited, True),
    (500, ModelUnavailable, True),
    (502, ModelUnavailable, True),
    (503, ModelUnavailable, True),
    (529, ModelUnavailable, True),
]


@pytest.mark.parametrize(("status", "kind", "retryable"), STATUSES, ids=[str(status) for status, *_ in STATUSES])
async def test_a_status_becomes_one_error(
    model: Model, server: ProviderServer, status: int, kind: type[ModelError], retryable: bool
) -> None:
    """Each HTTP error is one class of ours after one request, and its message names model, status and reason."""
    server.replies.append(Reply(status=status, text="the reason given"))
    with pytest.raises(ModelError) as caught:
        await model.complete(ASK)
    assert type(caught.value) is kind
    assert isinstance(caught.value, RetryableModelError) is retryable
    assert model.name in str(caught.value)
    assert str(status) in str(caught.value)
    assert "the reason given" in str(caught.value)
    assert len(server.requests) == 1


async def test_an_error_page_is_quoted_in_part(model: Model, server: ProviderServer) -> None:
    """An error with a body that is no JSON, as from a proxy, keeps its class; the message quotes a bounded part."""
    server.replies.append(Reply(status=502, body=b"<html>bad gateway" + b"x" * 100_000))
    with pytest.raises(ModelUnavailable, match="bad gateway") as caught:
        await model.complete(ASK)
    assert len(str(caught.value)) < 1000


RETRY_AFTER: list[tuple[dict[str, str], float | None]] = [
    ({"retry-after": "7"}, 7.0),
    ({"retry-after": "0.5"}, 0.5),
    ({"retry-after": "-3"}, 0.0),
    ({"retry-after": "soon"}, None),
    ({"retry-after": "inf"}, None),
    ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
    ({}, None),
]


@pytest.mark.parametrize(("headers", "seconds"), RETRY_AFTER, ids=str)
async def test_the_wish_to_wait_is_read(
    model: Model, server: ProviderServer, headers: dict[str, str], seconds: float | None
) -> None:
    """`Retry-After` in seconds and `retry-after-ms` arrive as seconds; what makes no sense is no wish."""
    server.replies.append(Reply(status=429, headers=headers))
    with pytest.raises(RateLimited) as caught:
        await model.complete(ASK)
    assert caught.value.retry_after == seconds


async def test_the_wish_to_wait_may_be_a_date(model: Model, server: ProviderServer) -> None:
    """`Retry-After` as an HTTP date is the time until then."""
    server.replies.append(
        Reply(status=503, headers={"retry-after": email.utils.formatdate(time.time() + 60, usegmt=True)})
    )
    with pytest.raises(ModelUnavailable) as caught:
        await model.complete(ASK)
    assert caught.value.retry_after is not None
    assert 50 < caught.value.retry_after <= 60


BROKEN = [b"", b"{", b"null", b"[]", b'"hello"', b"{}", b'{"choices": [], "content": []}', b"\xff\xfe", b"<html>"]


@pytest.mark.parametrize("body", BROKEN, ids=str)
async def test_a_broken_reply_is_worth_a_retry(model: Model, server: ProviderServer, body: bytes) -> None:
    """A 200 whose body is not what the interface promises is a `ModelReplyInvalid`, which is retryable."""
    server.replies.append(Reply(body=body))
    with pytest.raises(ModelReplyInvalid, match=model.name) as caught:
        await model.complete(ASK)
    assert isinstance(caught.value, RetryableModelError)


@pytest.mark.parametrize("text", ["", None])
async def test_an_empty_reply_is_no_answer(model: Model, server: ProviderServer, text: str | None) -> None:
    """A reply without text raises, and the error carries what it cost."""
    server.replies.append(Reply(text=text))
    with pytest.raises(ModelReplyInvalid) as caught:
        await model.complete(ASK)
    assert caught.value.usage is not None
    assert caught.value.usage.output_tokens == OUTPUT_TOKENS


async def test_an_empty_reply_that_will_stay_empty_is_not_repeated(model: Model, server: ProviderServer) -> None:
    """Where the output limit left no room for text, repeating is vain: `ModelRejected`, which says what to do."""
    server.replies.append(Reply(text=None, finish_reason="max_tokens" if "anthropic" in model.name else "length"))
    with pytest.raises(ModelRejected, match="allow more output tokens") as caught:
        await model.complete(ASK)
    assert caught.value.empty_for == "length"


async def test_a_truncated_body_is_a_lost_connection(model: Model, server: ProviderServer) -> None:
    """A connection that ends in the middle of a body is `ModelUnavailable`, never half an answer."""
    server.replies.append(Reply(text="x" * 10_000, fate="truncated"))
    with pytest.raises(ModelUnavailable):
        await model.complete(ASK)


async def test_a_reset_connection_is_unavailable(model: Model, server: ProviderServer) -> None:
    """A connection that is reset before the reply is `ModelUnavailable`, and the next request goes well."""
    server.replies.append(Reply(fate="reset"))
    with pytest.raises(ModelUnavailable, match=model.name):
        await model.complete(ASK)
    assert (await model.complete(ASK)).text == "ok"


async def test_a_refused_connection_is_unavailable(make_model: MakeModel) -> None:
    """An address where nothing listens is `ModelUnavailable`, and the message names it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with aclosing(make_model(f"http://127.0.0.1:{port}")) as model:
        with pytest.raises(ModelUnavailable, match=f"127.0.0.1:{port}"):
            await model.complete(ASK)


@pytest.mark.parametrize("fate", ["stalled", "stalled_midway"])
async def test_a_stall_is_a_timeout(make_model: MakeModel, server: ProviderServer, fate: Any) -> None:
    """A provider that stops, before its reply or in it, is `ModelTimeout` on time, and sees its client go."""
    server.replies.append(Reply(fate=fate))
    async with aclosing(make_model(server.url, seconds=0.3)) as model:
        start = time.monotonic()
        with pytest.raises(ModelTimeout, match=r"0\.3 s"):
            await model.complete(ASK)
        assert time.monotonic() - start < 2
        async with asyncio.timeout(5):
            await server.disconnected.wait()


@pytest.mark.parametrize("fate", ["stalled", "stalled_midway"])
async def test_a_cancel_ends_the_request_at_the_provider(model: Model, server: ProviderServer, fate: Any) -> None:
    """Cancelling closes the request: the provider sees its client go while the model stays usable."""
    server.replies.append(Reply(fate=fate))
    async with asyncio.timeout(5):
        task = asyncio.ensure_future(model.complete(ASK))
        await server.arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.disconnected.wait()
    assert (await model.complete(ASK)).text == "ok"


async def test_many_requests_run_at_once(model: Model, server: ProviderServer) -> None:
    """150 requests are all with the provider at the same time: no pool of connections holds some back."""
    gate = asyncio.Event()
    server.hold = gate
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(model.complete(ASK)) for _ in range(150)]
        await server.reached(150)
        gate.set()
    assert {call.result().text for call in calls} == {"ok"}


@pytest.mark.parametrize("status", [200, 400, 401, 429, 500])
async def test_no_error_shows_the_key(model: Model, server: ProviderServer, status: int) -> None:
    """Even of a server that echoes the key, no message and no chained error shows it."""
    server.replies.append(Reply(status=status, body=b'{"error": {"message": "bad key %s"}}' % KEY.encode()))
    with pytest.raises(ModelError) as caught:
        await model.complete(ASK)
    assert caught.value.__suppress_context__
    assert "bad key ***" in str(caught.value)
    assert KEY not in str(caught.value)


async def test_a_refused_key_names_its_variable(model: Model, server: ProviderServer) -> None:
    """Who gave a wrong key is told where it is kept."""
    server.replies.append(Reply(status=401))
    with pytest.raises(ModelAuthError, match="check THE_KEY"):
        await model.complete(ASK)


async def test_closing_twice_leaves_nothing_open(make_model: MakeModel, server: ProviderServer) -> None:
    """A model can be closed twice, used or not, and leaves no session that warns of not being closed."""
    for use in (False, True):
        model = make_model(server.url)
        if use:
            await model.complete(ASK)
        await model.aclose()
        await model.aclose()
        del model
    gc.collect()


async def test_openai_without_credit_is_not_repeated(server: ProviderServer) -> None:
    """A 429 that says the account is empty will not pass, so it is `ModelRejected`."""
    server.replies.append(Reply(status=429, body=b'{"error": {"message": "no quota", "code": "insufficient_quota"}}'))
    async with aclosing(_openai(server.url)) as model:
        with pytest.raises(ModelRejected, match="credit"):
            await model.complete(ASK)


async def test_openai_refusals_are_replies(server: ProviderServer) -> None:
    """A refusal of the model's own is a reply with the finish reason "refusal" and the refusal's words."""
    server.replies.append(
        Reply(body=b'{"choices": [{"finish_reason": "stop", "message": {"content": null, "refusal": "I will not"}}]}')
    )
    async with aclosing(_openai(server.url)) as model:
        completion = await model.complete(ASK)
    assert (completion.text, completion.finish_reason) == ("I will not", "refusal")


TOO_LONG = [
    (400, "context_length_exceeded", "This model's maximum context length is 128000 tokens. Your messages had 130001."),
    (400, "invalid_request_error", "prompt is too long: 210113 tokens > 200000 maximum"),
    (400, "exceed_context_size_error", "the request exceeds the available context size"),
    (
        400,
        "INVALID_ARGUMENT",
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    ),
    (413, "request_too_large", "Request exceeds the maximum size"),
]


@pytest.mark.parametrize(("status", "code", "message"), TOO_LONG, ids=[code for _, code, _ in TOO_LONG])
async def test_a_conversation_that_does_not_fit_is_an_error_of_its_own(
    model: Model, server: ProviderServer, status: int, code: str, message: str
) -> None:
    """In the words of OpenAI, Anthropic, llama.cpp and Gemini."""
    server.replies.append(Reply(status=status, body=json.dumps({"error": {"message": message, "code": code}}).encode()))
    with pytest.raises(PromptTooLong, match="larger window"):
        await model.complete(ASK)


NO_TOOLS = [
    (400, "registry.ollama.ai/library/gemma:2b does not support tools"),
    (400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
    (404, "No endpoints found that support tool use. To learn more about provider routing, visit: https://x"),
    (500, "tools param requires --jinja flag"),
]


@pytest.mark.parametrize(("status", "message"), NO_TOOLS, ids=["ollama", "vllm", "openrouter", "llamacpp"])
async def test_a_provider_without_tools_is_an_error_of_its_own(
    model: Model, server: ProviderServer, status: int, message: str
) -> None:
    """In the words of the servers that there are."""
    server.replies.append(Reply(status=status, text=message))
    with pytest.raises(ToolsRefused, match="--tool-calling off"):
        await model.complete(ASK)


@pytest.mark.parametrize(("status", "message"), [(500, "a tool failed inside"), (429, "too many tools"), (400, "bad")])
async def test_other_errors_are_not_taken_for_these(
    model: Model, server: ProviderServer, status: int, message: str
) -> None:
    """A server's own failure is worth a retry, whatever it is about."""
    server.replies.append(Reply(status=status, text=message))
    with pytest.raises(ModelError) as caught:
        await model.complete(ASK)
    assert not isinstance(caught.value, PromptTooLong | ToolsRefused)
