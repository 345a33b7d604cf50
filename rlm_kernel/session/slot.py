"""A slot: a container whose kernel has no context yet, ready to become one session."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlm_kernel.kernel import KernelClient
from rlm_kernel.sandbox.spec import Sandbox, SandboxRuntime, SandboxSpec
from rlm_kernel.storage import private_folder, storing


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
    # What is streamed lies in the private folder, and is not known yet; the container's memory is the limit.
    private_size = spec.memory if carrier == "attach" else spec.private_size
    with _session_folder(spec.folder) as folder:
        async with runtime.open(replace(spec, folder=folder, carrier=carrier, private_size=private_size)) as sandbox:
            yield Slot(folder, sandbox)


@contextmanager
def _session_folder(parent: Path) -> Iterator[Path]:
    """Make the folder that a guest sees, inside one that only this user can enter; remove both on exit."""
    private_folder(parent)
    private = parent / secrets.token_hex(8)
    folder = private / "guest"
    try:
        with storing(private):
            private.mkdir(mode=0o700)
            folder.mkdir()
            folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(private, ignore_errors=True)
