"""Which HTTP transport should each SDK use? Calls of 100 ms to a server in another process, bare aiohttp beside them.

Run as `python -m benchmarks.transports`. Each figure is the best of three rounds, taken in turn.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TypeAlias

import aiohttp
import anthropic
import openai
from httpx2 import AsyncClient, Limits

Call: TypeAlias = Callable[[], Awaitable[object]]
Opener: TypeAlias = Callable[[str], AbstractAsyncContextManager[Call]]

DELAY = 0.1
LOADS = ((200, 50), (1000, 100))
ROUNDS = 3
LIMITS = Limits(max_connections=0, max_keepalive_connections=None)
"""aiohttp takes 0 as unlimited; None would fall back to its default of 100."""
HTTPX_LIMITS = Limits(max_connections=None, max_keepalive_connections=None)


@contextmanager
def provider(delay: float) -> Iterator[str]:
    """Run the provider server in a process of its own; yield its address."""
    command = [sys.executable, "-m", "tests.support.provider_server", "--delay", str(delay)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


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


CONTENDERS: dict[str, Opener] = {
    "bare aiohttp": bare,
    "openai, httpx": with_openai(lambda: openai.DefaultAsyncHttpxClient(limits=HTTPX_LIMITS)),
    "openai, aiohttp": with_openai(lambda: openai.DefaultAioHttpClient(limits=LIMITS)),
    "anthropic, httpx": with_anthropic(lambda: anthropic.DefaultAsyncHttpxClient(limits=HTTPX_LIMITS)),
    "anthropic, aiohttp": with_anthropic(lambda: anthropic.DefaultAioHttpClient(limits=LIMITS)),
}


async def measure(opener: Opener, url: str, calls: int, concurrency: int) -> float:
    """Return the seconds that `calls` calls take, at most `concurrency` at once, on a client warmed by one call."""
    gate = asyncio.Semaphore(concurrency)
    async with opener(url) as call:

        async def one() -> None:
            async with gate:
                await call()

        await one()
        start = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(calls):
                tasks.create_task(one())
        return time.perf_counter() - start


def main() -> None:
    """Print one line for each contender and load: seconds, and the ratio to bare aiohttp."""
    with provider(DELAY) as url:
        for calls, concurrency in LOADS:
            print(f"{calls} calls of {DELAY * 1000:.0f} ms, {concurrency} at once")
            best = dict.fromkeys(CONTENDERS, float("inf"))
            for _ in range(ROUNDS):
                for name, opener in CONTENDERS.items():
                    best[name] = min(best[name], asyncio.run(measure(opener, url, calls, concurrency)))
            for name, seconds in best.items():
                print(f"  {name:20} {seconds:6.2f} s   {seconds / best['bare aiohttp']:.2f} x bare aiohttp")


if __name__ == "__main__":
    main()
