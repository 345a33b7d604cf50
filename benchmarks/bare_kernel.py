"""The baseline of what an IPython kernel costs by itself: one on this host, driven by the standard Jupyter client."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

DEADLINE = 60.0


@asynccontextmanager
async def bare_kernel(folder: Path) -> AsyncIterator[AsyncKernelClient]:
    """Start this Python's ipykernel, its files in `folder`; yield a client of it that has not been waited for."""
    kernel = AsyncKernelManager(
        connection_file=str(folder / f"bare-{time.monotonic_ns()}.json"),
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
        transport="ipc",
    )
    await kernel.start_kernel(env={**os.environ, "IPYTHONDIR": str(folder / "ipython")})
    try:
        client = kernel.client()
        client.start_channels()
        try:
            yield client
        finally:
            client.stop_channels()
    finally:
        await kernel.shutdown_kernel(now=True)


async def ready(client: AsyncKernelClient) -> None:
    """Wait until the kernel answers and its output is heard.

    `wait_for_ready` would do, but it ends with a wait of 0.2 s for silence, which is no work of the kernel's.
    """
    client.kernel_info()
    await client.get_shell_msg(timeout=DEADLINE)
    await client.get_iopub_msg(timeout=DEADLINE)


async def run_cell(client: AsyncKernelClient, code: str) -> None:
    """Run a cell until both its reply and its idle status have arrived."""
    msg_id = client.execute(code)
    while True:
        reply = await client.get_shell_msg(timeout=DEADLINE)
        if reply["parent_header"].get("msg_id") == msg_id:
            break
    while True:
        message = await client.get_iopub_msg(timeout=DEADLINE)
        mine = message["parent_header"].get("msg_id") == msg_id
        if mine and message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            return


async def timed_cell(client: AsyncKernelClient, code: str) -> float:
    """Run a cell and return the seconds it took."""
    started = time.perf_counter()
    await run_cell(client, code)
    return time.perf_counter() - started
