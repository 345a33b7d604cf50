"""Models behind OpenAI's chat completions, at OpenAI or at any server with the same interface."""

from __future__ import annotations

import asyncio

import aiohttp
import httpx2
import msgspec
import openai

from rlm_kernel.models.model import Completion, ModelRequest
from rlm_kernel.models.provider import LIMITS, TIMEOUT, Provider
from rlm_kernel.types import Usage


class _Message(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _InputDetails | None = None


class _Reply(msgspec.Struct):
    choices: list[_Choice]
    id: str | None = None
    model: str | None = None
    usage: _Usage | None = None


class OpenAIModel:
    """A client of one model through the official SDK, without the SDK's own retries.

    It runs on aiohttp: for 1,000 calls of 100 ms, 100 at once, the bare SDK then takes 1.3 to 1.5 times as long as bare
    aiohttp, and 1.6 to 2.1 times on its default transport (benchmarks/transports.py).
    The costs in `usage` are left unknown.
    """

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._client = openai.AsyncOpenAI(
            api_key=provider.api_key or "none",
            base_url=provider.base_url,
            max_retries=0,
            timeout=TIMEOUT,
            http_client=openai.DefaultAioHttpClient(limits=LIMITS, timeout=TIMEOUT),
        )

    @property
    def name(self) -> str:
        """The name it was asked for by, as `provider:model`."""
        return self._provider.name

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer one request; see `Model`."""
        provider = self._provider
        body: dict[str, object] = {
            "model": provider.model,
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        }
        if request.max_output_tokens is not None:
            body[provider.max_tokens_field] = request.max_output_tokens
        try:
            async with asyncio.timeout(provider.seconds):
                # `chat.completions.create` takes a third more processor time, for checks that do nothing here.
                response = await self._client.post("/chat/completions", body=body, cast_to=httpx2.Response)
        except openai.APIStatusError as error:
            raise provider.refusal(error.status_code, error.response.headers, error.body) from None
        except (openai.APIError, aiohttp.ClientError) as error:
            raise provider.unreachable(error) from None
        except TimeoutError:
            raise provider.late() from None
        return provider.with_text(self._completion(provider.decoded(response.content, _Reply)))

    async def aclose(self) -> None:
        """Close the connections; safe to call twice."""
        await self._client.close()

    def _completion(self, reply: _Reply) -> Completion:
        choice = reply.choices[0] if reply.choices else _Choice(_Message())
        used = reply.usage or _Usage()
        details = used.prompt_tokens_details or _InputDetails()
        refused = choice.message.content is None and choice.message.refusal is not None
        return Completion(
            text=choice.message.content or choice.message.refusal or "",
            finish_reason="refusal" if refused else choice.finish_reason or "unknown",
            usage=Usage(
                calls=1,
                input_tokens=used.prompt_tokens,
                cached_input_tokens=details.cached_tokens or 0,
                output_tokens=used.completion_tokens,
                cost_usd=None,
            ),
            served_by=reply.model or self._provider.model,
            reply_id=reply.id,
        )
