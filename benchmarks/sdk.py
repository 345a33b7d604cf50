"""The official SDKs called bare, on an HTTP client of choice, and the local server that they reach."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

import aiohttp
import anthropic
import openai
from httpx2 import AsyncClient, Limits

Call: TypeAlias = Callable[[], Awaitable[object]]
Opener: TypeAlias = Callable[[str], AbstractAsyncContextManager[Call]]

LIMITS = Limits(max_connections=0, max_keepalive_connections=None)
"""aiohttp takes 0 as unlimited; None would fall back to its default of 100."""
HTTPX_LIMITS = Limits(max_connections=None, max_keepalive_connections=None)


def with_openai(make_client: Callable[[], AsyncClient]) -> Opener:
    """Return an opener of the openai SDK on the HTTP client that `make_client` builds."""

    @asynccontextmanager
    async def opener(url: str) -> AsyncIterator[Call]:
        async with openai.AsyncOpenAI(
            api_key="none", base_url=f"{url}/v1", max_retries=0, http_client=make_client()
        ) as client:
            yield lambda: client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])

    return opener


def with_anthropic(make_client: Callable[[], AsyncClient]) -> Opener:
    """Return an opener of the anthropic SDK on the HTTP client that `make_client` builds."""

    @asynccontextmanager
    async def opener(url: str) -> AsyncIterator[Call]:
        async with anthropic.AsyncAnthropic(
            api_key="none", base_url=url, max_retries=0, http_client=make_client()
        ) as client:
            yield lambda: client.messages.create(model="m", max_tokens=64, messages=[{"role": "user", "content": "hi"}])

    return opener


@asynccontextmanager
async def bare(url: str) -> AsyncIterator[Call]:
    """Open a plain aiohttp session: what the requests cost without an SDK."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def call() -> object:
            async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                return await response.json()

        yield call


OPENAI_HTTPX = with_openai(lambda: openai.DefaultAsyncHttpxClient(limits=HTTPX_LIMITS))
OPENAI_AIOHTTP = with_openai(lambda: openai.DefaultAioHttpClient(limits=LIMITS))
ANTHROPIC_HTTPX = with_anthropic(lambda: anthropic.DefaultAsyncHttpxClient(limits=HTTPX_LIMITS))
ANTHROPIC_AIOHTTP = with_anthropic(lambda: anthropic.DefaultAioHttpClient(limits=LIMITS))


async def many(call: Call, calls: int, concurrency: int) -> float:
    """Return the seconds that `calls` calls take, at most `concurrency` at once."""
    gate = asyncio.Semaphore(concurrency)

    async def one() -> None:
        async with gate:
            await call()

    started = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(calls):
            tasks.create_task(one())
    return time.perf_counter() - started
