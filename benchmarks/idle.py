"""What idle sessions hold: a container's memory against a bare kernel's in one, and fifty sessions at the same time."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import time
from contextlib import AsyncExitStack

import docker

from benchmarks.cold_start import flags
from benchmarks.harness import Row, Samples
from benchmarks.memory import memory_of_this
from benchmarks.stage import Stage, timed_cell
from rlm_kernel.sandbox.container import LABEL
from rlm_kernel.sandbox.engine import connect
from rlm_kernel.sandbox.owner import owner

ROUNDS = 5
TARGET = 15 * 2**20
SESSIONS = 50
AT_ONCE = 4
FILE = "/tmp/kernel.json"
CELL = "x = 1"
CLIENT = f"""
from jupyter_client import BlockingKernelClient
client = BlockingKernelClient(connection_file={FILE!r})
client.load_connection_file()
client.start_channels()
client.wait_for_ready(timeout=60)
client.execute_interactive({CELL!r}, timeout=60)
"""


async def rows(stage: Stage) -> list[Row]:
    """Measure one container after the other, then many sessions at once; every kernel has run one cell."""
    client = await asyncio.to_thread(connect)
    try:
        ours, bare = [], []
        for _ in range(ROUNDS):
            async with stage.session(stage.carriers[0]) as session:
                await timed_cell(session, CELL)
                ours.append(await asyncio.to_thread(_session_memory, client))
            bare.append(await asyncio.to_thread(_bare_memory, stage, client))
    finally:
        client.close()
    return [
        Row(
            name="idle session, its container's memory",
            value=Samples(tuple(ours)),
            unit="MiB",
            baseline=Samples(tuple(bare)),
            against="bare ipykernel in a container",
            compare="difference",
            target=TARGET,
        ),
        *await _many(stage),
    ]


async def _many(stage: Stage) -> list[Row]:
    """Open many sessions, let all of them be idle, and run a cell in each."""
    carrier = stage.carriers[0]
    async with AsyncExitStack() as stack:
        warm = await stack.enter_async_context(stage.session(carrier))
        await timed_cell(warm, CELL)
        gc.collect()
        before, started = memory_of_this("VmRSS"), time.perf_counter()
        starting = asyncio.Semaphore(AT_ONCE)

        async def one() -> float:
            async with starting:
                session = await stack.enter_async_context(stage.session(carrier))
            return await timed_cell(session, CELL)

        cells = await asyncio.gather(*(one() for _ in range(SESSIONS)))
        seconds, grown = time.perf_counter() - started, memory_of_this("VmRSS") - before
        ended = time.perf_counter()
    ended = time.perf_counter() - ended
    return [
        Row(name=f"{SESSIONS} sessions open at once, first cell of each", value=Samples(tuple(cells))),
        Row(name=f"{SESSIONS} sessions, until all are open, {AT_ONCE} at a time", value=Samples((seconds,))),
        Row(name=f"{SESSIONS} sessions, until all are gone, one after another", value=Samples((ended,))),
        Row(name="idle session, the host's memory", value=Samples((grown / SESSIONS,)), unit="MiB"),
    ]


def _session_memory(client: docker.APIClient) -> int:
    (container,) = client.containers(filters={"label": [f"{LABEL}.owner={owner()}"]})
    return _memory(client, container["Id"])


def _bare_memory(stage: Stage, client: docker.APIClient) -> int:
    name = f"rlm-kernel-bench-{time.monotonic_ns()}"
    run = ["docker", "run", "--detach", f"--name={name}", *flags(stage.sandbox_spec("attach"))]
    kernel = [
        "--env=IPYTHONDIR=/tmp/ipython",
        "--entrypoint=python3",
        stage.image,
        "-m",
        "ipykernel_launcher",
        "-f",
        FILE,
    ]
    wait = [
        "docker",
        "exec",
        name,
        "sh",
        "-c",
        f"until [ -s {FILE} ]; do sleep 0.1; done; exec python3 -c '{_quoted(CLIENT)}'",
    ]
    try:
        for command in ([*run, *kernel], wait):
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, start_new_session=True)
        return _memory(client, name)
    finally:
        subprocess.run(["docker", "rm", "--force", name], check=False, capture_output=True, start_new_session=True)


def _quoted(program: str) -> str:
    return program.replace("'", '"')


def _memory(client: docker.APIClient, container: str) -> int:
    """Return a container's memory in bytes, in its processes and in files in memory, without the page cache."""
    seen = client.stats(container, stream=False, one_shot=True)["memory_stats"]["stats"]
    if "anon" in seen:  # cgroup version 2
        return int(seen["anon"]) + int(seen["shmem"])
    return int(seen["total_rss"]) + int(seen.get("total_shmem", 0))
