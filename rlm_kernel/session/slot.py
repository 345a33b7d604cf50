"""A slot: a container whose kernel has no context yet, ready to become one session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlm_kernel.kernel import KernelClient
from rlm_kernel.sandbox.folders import note_container, session_folder
from rlm_kernel.sandbox.spec import Sandbox, SandboxRuntime, SandboxSpec

KERNEL_MEMORY = 160 * 1024 * 1024
"""Memory that the relay and an idle kernel need, measured and rounded up, in bytes."""


class Slot:
    """A running sandbox for one session. `folder` is what the guest sees of the host, read-only."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        self.folder = folder
        self.sandbox = sandbox
        self.kernel = KernelClient(sandbox.endpoint)
        self._released: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def answers(self, within: float) -> bool:
        """Ask for a sign of life; False if none comes within so many seconds."""
        return await self.sandbox.endpoint.answers(within)

    def release(self) -> None:
        """Let the sandbox end; safe to call twice."""
        if not self._released.done():
            self._released.set_result(None)

    async def over(self) -> None:
        """Wait until the slot is released or its sandbox lost."""
        ends: set[asyncio.Future[Any]] = {self._released, self.sandbox.endpoint.lost}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)


@asynccontextmanager
async def open_slot(runtime: SandboxRuntime, spec: SandboxSpec) -> AsyncIterator[Slot]:
    """Start a container as `spec` says, in a folder of its own within `spec.folder`; remove both on exit.

    Raise what `SandboxRuntime.open` raises, and `StorageFull` or `StorageError`.
    """
    carrier = await runtime.carrier(spec.carrier)
    # A context that is streamed lies there, as bytes beside its value. Which one it will be is not known yet.
    streamed = max(spec.memory - KERNEL_MEMORY, 0) // 2 if carrier == "attach" else 0
    private_size = spec.private_size + streamed
    with session_folder(spec.folder) as folder:
        async with runtime.open(replace(spec, folder=folder, carrier=carrier, private_size=private_size)) as sandbox:
            note_container(folder, sandbox.container)
            yield Slot(folder, sandbox)
