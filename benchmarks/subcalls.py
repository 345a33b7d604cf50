"""Sub-calls out of a cell through the whole stack, against the official SDK called bare on the same server."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from benchmarks import sdk
from benchmarks.harness import Measure, Row, Samples, in_turn
from benchmarks.stage import Stage, figures, timed_cell
from rlm_kernel.assembly.clients import open_model
from rlm_kernel.assembly.models import Chain, gate_of
from rlm_kernel.budget import Budget, Limits
from rlm_kernel.models.gate import Gate
from rlm_kernel.models.metering import Meter
from rlm_kernel.models.model import Model
from rlm_kernel.models.retry import RetryPolicy
from rlm_kernel.models.turns import Rates
from rlm_kernel.session import Session
from tests.support.provider_server import provider_process

SDKS = {"SDK, httpx": sdk.OPENAI_HTTPX, "SDK, aiohttp": sdk.OPENAI_AIOHTTP}

ONE_ROUNDS, ONE_CALLS, ONE_TARGET = 6, 50, 0.003
BATCH_ROUNDS, BATCH_CALLS, BATCH_PARALLEL, BATCH_DELAY, BATCH_TARGET = 6, 1000, 100, 0.1, 1.2

ONE_CELL = f"""
import time
taken = []
for _ in range({ONE_CALLS}):
    started = time.perf_counter()
    llm_query("hi")
    taken.append(time.perf_counter() - started)
FINAL(taken)
"""
BATCH_CELL = f"answers = llm_query_batched(['hi'] * {BATCH_CALLS})"


async def one_rows(stage: Stage) -> list[Row]:
    """Measure `llm_query` inside the guest, many in a cell, and the SDK's call on the host, in turn."""
    async with AsyncExitStack() as stack:
        url = stack.enter_context(provider_process("--delay", "0"))
        model = await stack.enter_async_context(provider_model(url))
        taken: dict[str, list[float]] = {carrier: [] for carrier in stage.carriers}
        measures: dict[str, Measure] = {}
        for carrier in stage.carriers:
            session = await stack.enter_async_context(stage.session(carrier, model=model))
            measures[carrier] = partial(_queries, session, taken[carrier])
        bare: list[float] = []
        call = await stack.enter_async_context(sdk.OPENAI_AIOHTTP(url))
        measures["SDK"] = partial(_bare_calls, call, bare)
        await in_turn(measures, ONE_ROUNDS)
    return [
        Row(
            name=f"llm_query, server answers at once, {carrier}",
            value=Samples(tuple(taken[carrier][ONE_CALLS:])),
            baseline=Samples(tuple(bare[ONE_CALLS:])),
            against="SDK, aiohttp",
            compare="difference",
            target=ONE_TARGET if carrier == stage.carriers[0] else None,
        )
        for carrier in stage.carriers
    ]


async def _queries(session: Session, taken: list[float]) -> float:
    queries = await figures(session, ONE_CELL)
    taken.extend(queries.values)
    return sum(queries.values)


async def _bare_calls(call: sdk.Call, taken: list[float]) -> float:
    begun = time.perf_counter()
    for _ in range(ONE_CALLS):
        started = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - started)
    return time.perf_counter() - begun


async def batch_rows(stage: Stage) -> list[Row]:
    """Measure whole cells of one batched call each, and the SDK on both of its transports, in turn."""
    async with AsyncExitStack() as stack:
        url = stack.enter_context(provider_process("--delay", str(BATCH_DELAY)))
        model = await stack.enter_async_context(provider_model(url))
        cpu: dict[str, list[float]] = {}
        measures: dict[str, Measure] = {}

        def measured(name: str, measure: Measure) -> None:
            cpu[name] = []
            measures[name] = partial(_with_cpu, measure, cpu[name])

        for carrier in stage.carriers:
            session = await stack.enter_async_context(stage.session(carrier, model=model, parallel=BATCH_PARALLEL))
            measured(carrier, partial(timed_cell, session, BATCH_CELL))
        for name, opener in SDKS.items():
            call = await stack.enter_async_context(opener(url))
            measured(name, partial(sdk.many, call, BATCH_CALLS, BATCH_PARALLEL))
        taken = await in_turn(measures, BATCH_ROUNDS)
    fastest = min(SDKS, key=lambda name: taken[name].median)
    times = [
        Row(
            name=f"{BATCH_CALLS} sub-calls of 100 ms, {BATCH_PARALLEL} at once, {name}",
            value=taken[name],
            baseline=None if name == fastest else taken[fastest],
            against=fastest,
            target=BATCH_TARGET if name == stage.carriers[0] else None,
        )
        for name in measures
    ]
    used = {name: Samples(tuple(values[1:])) for name, values in cpu.items()}
    return times + [
        Row(
            name=f"host's CPU time for each of them, {name}",
            value=used[name],
            baseline=None if name == fastest else used[fastest],
            against=fastest,
        )
        for name in measures
    ]


async def _with_cpu(measure: Measure, used: list[float]) -> float:
    """Take a measure and note the CPU time of this process for each of its calls."""
    before = time.process_time()
    seconds = await measure()
    used.append((time.process_time() - before) / BATCH_CALLS)
    return seconds


@asynccontextmanager
async def provider_model(url: str) -> AsyncIterator[Model]:
    """Open the model class for OpenAI on the server at `url`, wrapped as in a run that has limits of every kind."""
    opened = open_model("openai:m", env={"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": "none"})
    room = Gate("benchmark", Rates(concurrency=BATCH_PARALLEL))
    budget = Budget(Limits(subcalls=10**9, total_tokens=10**12))
    chain = Chain(policy=RetryPolicy(), meter=Meter(), room=room, budget=budget)
    gate = gate_of(opened)
    model = chain.around(opened, gate)
    try:
        with gate.limited(Rates(concurrency=10**6, requests_per_minute=10**9, tokens_per_minute=10**12)):
            yield model
    finally:
        await model.aclose()
