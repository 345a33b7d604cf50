"""What the benchmarks run on: the real runtime, store and recording, in a folder that goes when they are done."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import msgspec

from benchmarks.harness import Samples
from rlm_kernel.assembly.parts import sandbox_spec
from rlm_kernel.config import Settings
from rlm_kernel.models.model import Model
from rlm_kernel.recording import RecordingLog, new_run_id
from rlm_kernel.sandbox.contexts import ContextStore, StoredContext
from rlm_kernel.sandbox.docker import DockerRuntime
from rlm_kernel.sandbox.engine import connect
from rlm_kernel.sandbox.image import ensure_image
from rlm_kernel.sandbox.spec import Carrier, SandboxSpec
from rlm_kernel.session import Session, SessionSpec, SlotPool, open_session


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """An engine with the sandbox image, and a state folder of our own. `carriers` are those this engine can have."""

    settings: Settings
    image: str
    runtime: DockerRuntime
    store: ContextStore
    log: RecordingLog
    empty: StoredContext
    carriers: tuple[Carrier, ...]

    @property
    def folder(self) -> Path:
        """A folder for files that a benchmark needs."""
        return self.settings.state_dir

    def sandbox_spec(self, carrier: Carrier) -> SandboxSpec:
        """Return a sandbox as `rlm-kernel run` asks for it by default."""
        return replace(sandbox_spec(self.settings), image=self.image, carrier=carrier)

    @asynccontextmanager
    async def session(
        self,
        carrier: Carrier,
        context: StoredContext | None = None,
        model: Model | None = None,
        *,
        cell_timeout: float | None = None,
        parallel: int | None = None,
    ) -> AsyncIterator[Session]:
        """Open a recorded session; without a `context` its text has one character."""
        spec = SessionSpec(
            sandbox=self.sandbox_spec(carrier),
            context=context or self.empty,
            models={} if model is None else {None: model},
            cell_timeout=cell_timeout or self.settings.cell_timeout,
            parallel_subcalls=parallel or self.settings.max_parallel_subcalls,
        )
        async with (
            SlotPool(self.runtime, spec.sandbox) as slots,
            open_session(slots, spec, self.log) as session,
        ):
            yield session


@asynccontextmanager
async def open_stage() -> AsyncIterator[Stage]:
    """Build the image if it is missing and open a stage; close it and remove its folder when the block ends."""
    client = await asyncio.to_thread(connect)
    try:
        image = await asyncio.to_thread(ensure_image, client, progress=partial(print, file=sys.stderr))
    finally:
        client.close()
    with tempfile.TemporaryDirectory(prefix="rlm-kernel-bench-") as folder:
        settings = Settings(state_dir=Path(folder))
        runtime = DockerRuntime()
        try:
            best = await runtime.carrier("auto")
            store = ContextStore(settings.contexts_dir, settle_seconds=0)
            with RecordingLog(settings.state_dir, new_run_id()) as log:
                yield Stage(
                    settings=settings,
                    image=image,
                    runtime=runtime,
                    store=store,
                    log=log,
                    empty=store.put_value("x"),
                    carriers=("socket", "attach") if best == "socket" else ("attach",),
                )
        finally:
            await runtime.aclose()


async def timed_cell(session: Session, code: str) -> float:
    """Run a cell and return the seconds until its result is there. Raise `RuntimeError` if it fails."""
    started = time.perf_counter()
    result = await session.run_cell(code, turn=1)
    seconds = time.perf_counter() - started
    if result.status != "ok":
        raise RuntimeError(f"the cell {code!r} ended with {result.status}: {result.ename}: {result.evalue}")
    return seconds


async def figures(session: Session, code: str) -> Samples:
    """Run a cell that ends with `FINAL` of a list of seconds, measured inside it. Raise `RuntimeError` if it fails."""
    result = await session.run_cell(code, turn=1)
    if result.final is None:
        raise RuntimeError(f"a cell gave no figures: {result.status}: {result.ename}: {result.evalue}")
    return Samples(tuple(msgspec.convert(result.final.value, list[float])))
