"""What another OCI runtime or engine costs: a start, a trivial cell and a sub-call, against Docker's `runc`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial

from benchmarks.harness import Row, Samples, in_turn
from benchmarks.stage import Stage, figures, timed_cell
from rlm_kernel.models.model import Completion, ModelRequest
from rlm_kernel.sandbox.docker import DockerRuntime
from rlm_kernel.session import Session
from rlm_kernel.types import Usage
from tests.support.runtimes import KINDS, missing, podman_as_root

STARTS, CELLS, QUERIES = 8, 100, 40
BASELINE = KINDS[0]
CELL = "x = 1"
QUERY_CELL = """
import time
started = time.perf_counter()
llm_query("hi")
FINAL([time.perf_counter() - started])
"""


class Prompt:
    """Answers at once."""

    name = "bench:prompt"

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer with what was asked."""
        text = request.messages[0].content
        return Completion(text=text, finish_reason="stop", usage=Usage(calls=1), served_by="bench")

    async def aclose(self) -> None:
        """Close nothing."""


async def rows(stage: Stage) -> list[Row]:
    """Measure each kind that this machine has, in turn."""
    async with AsyncExitStack() as stack:
        stages = {kind: await stack.enter_async_context(_on(stage, kind)) for kind in KINDS if not missing(kind)}
        starts = await in_turn({kind: partial(_start, one) for kind, one in stages.items()}, STARTS)
        sessions = {
            kind: await stack.enter_async_context(one.session(one.carriers[0], model=Prompt()))
            for kind, one in stages.items()
        }
        cells = await in_turn(
            {kind: partial(timed_cell, one, CELL) for kind, one in sessions.items()}, CELLS, warm_up=5
        )
        queries = await in_turn({kind: partial(_query, one) for kind, one in sessions.items()}, QUERIES, warm_up=5)
    return [
        *_rows("cold start to first cell", starts),
        *_rows("trivial cell", cells),
        *_rows("llm_query, answered at once", queries),
    ]


def _rows(name: str, taken: dict[str, Samples]) -> list[Row]:
    return [
        Row(
            name=f"{name}, {kind}",
            value=samples,
            baseline=None if kind == BASELINE else taken[BASELINE],
            against="" if kind == BASELINE else BASELINE,
        )
        for kind, samples in taken.items()
    ]


@asynccontextmanager
async def _on(stage: Stage, kind: str) -> AsyncIterator[Stage]:
    """Yield the stage with another runtime."""
    async with AsyncExitStack() as stack:
        address = stack.enter_context(podman_as_root()) if kind.startswith("podman") else None
        runtime = DockerRuntime(address, oci_runtime="runsc" if kind.endswith("runsc") else None)
        stack.push_async_callback(runtime.aclose)
        yield replace(stage, runtime=runtime)


async def _start(stage: Stage) -> float:
    started = time.perf_counter()
    async with stage.session(stage.carriers[0]) as session:
        await timed_cell(session, CELL)
        return time.perf_counter() - started


async def _query(session: Session) -> float:
    return (await figures(session, QUERY_CELL)).median
