"""Which HTTP transport should each SDK use? Many calls on each, and on bare aiohttp without an SDK."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial

from benchmarks import sdk
from benchmarks.harness import Measure, Row, in_turn
from benchmarks.stage import Stage
from tests.support.provider_server import provider_process

CALLS, CONCURRENCY, DELAY, ROUNDS = 1000, 100, 0.1, 3
BASELINE = "bare aiohttp"
CONTENDERS: dict[str, sdk.Opener] = {
    BASELINE: sdk.bare,
    "openai, httpx": sdk.OPENAI_HTTPX,
    "openai, aiohttp": sdk.OPENAI_AIOHTTP,
    "anthropic, httpx": sdk.ANTHROPIC_HTTPX,
    "anthropic, aiohttp": sdk.ANTHROPIC_AIOHTTP,
}


async def rows(_: Stage) -> list[Row]:
    """Measure each SDK on each transport, on clients that stay open, in turn."""
    async with AsyncExitStack() as stack:
        url = stack.enter_context(provider_process("--delay", str(DELAY)))
        measures: dict[str, Measure] = {}
        for name, opener in CONTENDERS.items():
            call = await stack.enter_async_context(opener(url))
            measures[name] = partial(sdk.many, call, CALLS, CONCURRENCY)
        taken = await in_turn(measures, ROUNDS)
    return [
        Row(
            name=f"{CALLS:,} calls of 100 ms, {CONCURRENCY} at once, {name}",
            value=taken[name],
            baseline=None if name == BASELINE else taken[BASELINE],
            against=BASELINE,
        )
        for name in CONTENDERS
    ]
