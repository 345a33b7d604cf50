"""Models behind OpenAI's chat completions, at OpenAI or at any server with the same interface."""

from __future__ import annotations

import asyncio

import aiohttp
import httpx2
import openai

from rlm_kernel.models import openai_wire
from rlm_kernel.models.model import Completion, ModelRequest
from rlm_kernel.models.openai_stream import StreamedReply
from rlm_kernel.models.provider import LIMITS, TIMEOUT, Provider


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
        try:
            content = await self._sent(request)
        except openai.APIStatusError as error:
            raise provider.refusal(error.status_code, error.response.headers, error.body) from None
        except (openai.APIConnectionError, httpx2.HTTPError, aiohttp.ClientError) as error:
            raise provider.unreachable(error) from None
        except openai.APIError as error:
            raise provider.failed_midway(error.body) from None
        except TimeoutError:
            raise provider.late() from None
        reply = provider.decoded(content, openai_wire.Reply)
        if reply.error is not None:
            raise provider.failed_midway(reply.error) from None
        return provider.with_text(openai_wire.completion(reply, provider.model))

    async def _sent(self, request: ModelRequest) -> bytes:
        """Send a request and return its reply's body, put together from the stream where it is one."""
        body = openai_wire.body(self._provider.model, request, self._provider.max_tokens_field)
        async with asyncio.timeout(self._provider.seconds) as clock:
            # `chat.completions.create` takes a third more processor time, for checks that do nothing here.
            if request.on_text is None:
                return (await self._client.post("/chat/completions", body=body, cast_to=httpx2.Response)).content
            body |= {"stream": True, "stream_options": {"include_usage": True}}
            stream = await self._client.post(
                "/chat/completions", body=body, cast_to=object, stream=True, stream_cls=openai.AsyncStream[object]
            )
            return await self._provider.streamed(stream, StreamedReply(request.on_text), clock)

    async def aclose(self) -> None:
        """Close the connections; safe to call twice."""
        await self._client.close()
