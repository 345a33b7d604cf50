"""A session: a sandbox, its kernel and its bridge, in one async context manager."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from rlm_kernel.bridge import Bridge
from rlm_kernel.errors import ContextTooLarge
from rlm_kernel.events import EventSink, KernelReady, SandboxStarted
from rlm_kernel.kernel import BoundContext, CellResult, KernelClient
from rlm_kernel.models.model import Model
from rlm_kernel.sandbox.contexts import ContextStore, StoredContext
from rlm_kernel.sandbox.spec import Carrier, SandboxSpec
from rlm_kernel.session.pool import SlotPool

MIB = 1024 * 1024
KERNEL_MEMORY = 160 * MIB
"""Memory that the relay and an idle kernel need, measured and rounded up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSpec:
    """What a session is made of.

    `sandbox.folder` is where the session's own folder is made.
    `models` is the allow-list of sub-models by name, None being the default; `cell_timeout` is in seconds.
    """

    sandbox: SandboxSpec
    context: StoredContext
    models: Mapping[str | None, Model]
    cell_timeout: float
    parallel_subcalls: int = 50
    max_output_tokens: int | None = None


class Session:
    """A live session, made by `open_session`; `ready` is what the kernel said when `context` was first bound."""

    def __init__(self, kernel: KernelClient, bridge: Bridge, cell_timeout: float, ready: KernelReady) -> None:
        self.ready = ready
        self._kernel = kernel
        self._bridge = bridge
        self._cell_timeout = cell_timeout

    async def run_cell(self, code: str, *, turn: int) -> CellResult:
        """Run one cell of the given turn and return its result.

        Raise `SandboxLost`, `GuestProtocolError` or `KernelFailed`; the session can't be used after these or after a
        cancel.
        """
        with self._bridge.open_for(self._kernel.cells + 1):
            return await self._kernel.run(code, turn=turn, time_limit=self._cell_timeout)

    def interrupt(self) -> None:
        """Stop the running cell, if any, as its time limit would; its status is "interrupted" then."""
        self._kernel.stop()


@asynccontextmanager
async def open_session(
    slots: SlotPool, store: ContextStore, spec: SessionSpec, sink: EventSink
) -> AsyncIterator[Session]:
    """Take a slot, bind the context, and give the slot back on exit, after an error and a cancel too.

    Its sandbox ends in the background then; closing `slots` waits for that. Raise what `SlotPool.take` and
    `KernelClient.start` raise, and `ContextTooLarge`.
    """
    check_fits(spec.context, spec.sandbox.memory)
    slot = await slots.take(spec.sandbox)
    try:
        sandbox = slot.sandbox
        if sandbox.carrier == "socket":
            store.link_into(spec.context, slot.folder)
        sink.emit(
            SandboxStarted(
                runtime=sandbox.runtime,
                oci_runtime=sandbox.oci_runtime,
                engine=sandbox.engine,
                container=sandbox.container,
                image=sandbox.image,
                image_id=sandbox.image_id,
                carrier=sandbox.carrier,
                uid=sandbox.uid,
                seen=sandbox.seen,
            )
        )
        ready = await slot.kernel.start(_bound(sandbox.carrier, spec.context), sink)
        async with Bridge(
            sandbox.endpoint,
            spec.models,
            sink,
            parallel=spec.parallel_subcalls,
            max_output_tokens=spec.max_output_tokens,
        ) as bridge:
            yield Session(slot.kernel, bridge, spec.cell_timeout, ready)
    finally:
        slot.release()


def check_fits(context: StoredContext, memory: int) -> None:
    """Raise `ContextTooLarge` for a context whose Python value would not fit into a sandbox of `memory` bytes."""
    copies = 2 if context.kind == "json" else 1
    needed = KERNEL_MEMORY + copies * context.decoded_size + context.size
    if needed > memory:
        raise ContextTooLarge(
            f"the context takes {context.decoded_size / MIB:.0f} MiB as a Python value, and the session's memory "
            f"of {memory / MIB:.0f} MiB is too small for it: allow {needed / MIB + 64:.0f} MiB or more with --memory"
        )


def _index_size(context: StoredContext) -> int:
    return context.index_path.stat().st_size if context.index_path else 0


def _bound(carrier: Carrier, context: StoredContext) -> BoundContext:
    files = (context.path, context.index_path) if context.index_path else (context.path,)
    return BoundContext(
        kind=context.kind,
        size=context.size,
        index_size=_index_size(context),
        files=files if carrier == "attach" else (),
    )
