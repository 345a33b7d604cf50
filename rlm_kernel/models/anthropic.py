"""Models behind Anthropic's messages interface."""

from __future__ import annotations

import asyncio

import aiohttp
import anthropic
import httpx2
import msgspec

from rlm_kernel.models.model import Completion, ModelRequest
from rlm_kernel.models.provider import LIMITS, TIMEOUT, Provider
from rlm_kernel.types import Usage

DEFAULT_MAX_TOKENS = 8192
"""What a request without a limit of its own may answer with: the interface demands a number, and every model since
Claude 3.5 takes this one."""

_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
}
"""Anthropic's words for what `Completion.finish_reason` says as OpenAI does; others, as "refusal", stay."""


class _Block(msgspec.Struct):
    type: str
    text: str = ""


class _Usage(msgspec.Struct):
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Reply(msgspec.Struct):
    content: list[_Block]
    id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None


class AnthropicModel:
    """A client of one model through the official SDK, without the SDK's own retries.

    It runs on aiohttp: for 1,000 calls of 100 ms, 100 at once, the bare SDK then takes 1.2 to 1.4 times as long as bare
    aiohttp, and 1.4 to 2 times on its default transport (benchmarks/transports.py).
    The costs in `usage` are left unknown.
    """

    def __init__(self, provider: Provider, *, max_tokens: int = DEFAULT_MAX_TOKENS) -> None:
        """`max_tokens` limits the replies to requests that have no limit."""
        self._provider = provider
        self._max_tokens = max_tokens
        self._client = anthropic.AsyncAnthropic(
            api_key=provider.api_key or "none",
            base_url=provider.base_url,
            max_retries=0,
            timeout=TIMEOUT,
            http_client=anthropic.DefaultAioHttpClient(limits=LIMITS, timeout=TIMEOUT),
        )

    @property
    def name(self) -> str:
        """The name it was asked for by, as `provider:model`."""
        return self._provider.name

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer one request; see `Model`."""
        provider = self._provider
        system = "\n\n".join(message.content for message in request.messages if message.role == "system")
        body: dict[str, object] = {
            "model": provider.model,
            "max_tokens": request.max_output_tokens or self._max_tokens,
            "messages": [
                {"role": message.role, "content": message.content}
                for message in request.messages
                if message.role != "system"
            ],
        }
        if system:
            body["system"] = system
        if len(request.messages) > 1:
            # A conversation comes back longer, so the provider keeps it; a lone prompt never does.
            body["cache_control"] = {"type": "ephemeral"}
        try:
            async with asyncio.timeout(provider.seconds):
                # `messages.create` takes a sixth more processor time, for checks that do nothing here.
                response = await self._client.post("/v1/messages", body=body, cast_to=httpx2.Response)
        except anthropic.APIStatusError as error:
            raise provider.refusal(error.status_code, error.response.headers, error.body) from None
        except (anthropic.APIError, aiohttp.ClientError) as error:
            raise provider.unreachable(error) from None
        except TimeoutError:
            raise provider.late() from None
        return provider.with_text(self._completion(provider.decoded(response.content, _Reply)))

    async def aclose(self) -> None:
        """Close the connections; safe to call twice."""
        await self._client.close()

    def _completion(self, reply: _Reply) -> Completion:
        used = reply.usage or _Usage()
        read, written = used.cache_read_input_tokens or 0, used.cache_creation_input_tokens or 0
        reason = reply.stop_reason or "unknown"
        return Completion(
            text="".join(block.text for block in reply.content if block.type == "text"),
            finish_reason=_FINISH_REASONS.get(reason, reason),
            usage=Usage(
                calls=1,
                input_tokens=used.input_tokens + read + written,
                cached_input_tokens=read,
                cache_write_tokens=written,
                output_tokens=used.output_tokens,
                cost_usd=None,
            ),
            served_by=reply.model or self._provider.model,
            reply_id=reply.id,
        )
