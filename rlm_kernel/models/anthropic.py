"""Models behind Anthropic's messages interface."""

from __future__ import annotations

import asyncio

import aiohttp
import anthropic
import httpx2
import msgspec

from rlm_kernel.models import anthropic_wire
from rlm_kernel.models.anthropic_stream import StreamedReply
from rlm_kernel.models.model import Completion, ModelRequest
from rlm_kernel.models.provider import LIMITS, TIMEOUT, Provider

DEFAULT_MAX_TOKENS = 8192
"""What a request without a limit of its own may answer with: the interface demands a number, and every model since
Claude 3.5 takes this one."""


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
        try:
            content = await self._sent(request)
        except anthropic.APIStatusError as error:
            if error.status_code < 400:  # the reply had begun well
                raise provider.failed_midway(error.body) from None
            raise provider.refusal(error.status_code, error.response.headers, error.body) from None
        except (anthropic.APIError, httpx2.HTTPError, aiohttp.ClientError) as error:
            raise provider.unreachable(error) from None
        except TimeoutError:
            raise provider.late() from None
        return provider.with_text(self._completion(content))

    async def _sent(self, request: ModelRequest) -> bytes:
        """Send a request and return its reply's body, put together from the stream where it is one."""
        body = anthropic_wire.body(self._provider.model, request, self._max_tokens)
        async with asyncio.timeout(self._provider.seconds) as clock:
            # `messages.create` takes a sixth more processor time, for checks that do nothing here.
            if request.on_text is None:
                return (await self._client.post("/v1/messages", body=body, cast_to=httpx2.Response)).content
            stream = await self._client.post(
                "/v1/messages",
                body=body | {"stream": True},
                cast_to=object,
                stream=True,
                stream_cls=anthropic.AsyncStream[object],
            )
            return await self._provider.streamed(stream, StreamedReply(request.on_text), clock)

    async def aclose(self) -> None:
        """Close the connections; safe to call twice."""
        await self._client.close()

    def _completion(self, content: bytes) -> Completion:
        reply = self._provider.decoded(content, anthropic_wire.Reply)
        try:
            return anthropic_wire.completion(reply, self._provider.model)
        except msgspec.ValidationError as error:
            raise self._provider.invalid(content, error) from None
