"""From nothing to the first cell's result, against what the container and the kernel cost by themselves."""

from __future__ import annotations

import subprocess
import time
from functools import partial
from pathlib import Path

from benchmarks.bare_kernel import bare_kernel, ready, run_cell
from benchmarks.harness import Row, Samples, in_turn
from benchmarks.stage import Stage, timed_cell
from rlm_kernel.sandbox.spec import GUEST_PRIVATE, GUEST_SHARED, GUEST_TMP, Carrier, SandboxSpec

ROUNDS = 12
TARGET = 1.3
CELL = "x = 1"
UID = 39_999


async def rows(stage: Stage) -> list[Row]:
    """Measure sessions over each carrier, a container that runs `true`, and a kernel on this host, in turn."""
    ends: dict[Carrier, list[float]] = {carrier: [] for carrier in stage.carriers}
    taken = await in_turn(
        {
            **{carrier: partial(_session, stage, carrier, ends[carrier]) for carrier in stage.carriers},
            "docker run": partial(_container, stage),
            "kernel": partial(_kernel, stage.folder, flush=False),
            "kernel, flushed": partial(_kernel, stage.folder, flush=True),
        },
        ROUNDS,
    )
    both = taken["docker run"] + taken["kernel"]
    return [
        *(
            Row(
                name=f"cold start to first cell, {carrier}",
                value=taken[carrier],
                baseline=both,
                against="docker run + bare kernel",
                target=TARGET if carrier == stage.carriers[0] else None,
            )
            for carrier in stage.carriers
        ),
        Row(name="docker run, same image and flags, true", value=taken["docker run"]),
        Row(name="bare kernel to first cell", value=taken["kernel"]),
        Row(name="bare kernel to first cell, wait_for_ready", value=taken["kernel, flushed"]),
        *(Row(name=f"session's end, {carrier}", value=Samples(tuple(ends[carrier][1:]))) for carrier in stage.carriers),
    ]


async def _session(stage: Stage, carrier: Carrier, ends: list[float]) -> float:
    started = time.perf_counter()
    async with stage.session(carrier) as session:
        await timed_cell(session, CELL)
        done = time.perf_counter()
    ends.append(time.perf_counter() - done)
    return done - started


async def _container(stage: Stage) -> float:
    options = flags(stage.sandbox_spec("socket"))
    if "socket" in stage.carriers:
        options.append(f"--mount=type=bind,source={stage.folder},target={GUEST_SHARED},readonly")
    return _docker_run([*options, "--entrypoint=true", stage.image])


def _docker_run(arguments: list[str]) -> float:
    """Return the seconds that `docker run` takes.

    It returns at the container's end. With `--rm` it would wait for the removal too, so that is done here, afterwards.
    """
    name = f"rlm-kernel-bench-{time.monotonic_ns()}"
    try:
        started = time.perf_counter()
        # Out of reach of a Ctrl-C, as it would leave a container that is still to be created.
        subprocess.run(["docker", "run", f"--name={name}", *arguments], check=True, start_new_session=True)
        return time.perf_counter() - started
    finally:
        subprocess.run(["docker", "rm", "--force", name], check=False, capture_output=True, start_new_session=True)


def flags(spec: SandboxSpec) -> list[str]:
    """Return the flags that give a container what a session's has."""
    tmpfs = f"rw,nosuid,nodev,noexec,mode=0700,uid={UID},gid={UID}"
    return [
        "--network=none",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges:true",
        "--read-only",
        "--ipc=private",
        "--log-driver=none",
        "--hostname=sandbox",
        f"--user={UID}:{UID}",
        f"--memory={spec.memory}",
        f"--memory-swap={spec.memory}",
        f"--cpus={spec.cpus}",
        f"--pids-limit={spec.pids}",
        f"--shm-size={spec.shm_size}",
        f"--ulimit=nofile={spec.nofile}:{spec.nofile}",
        "--ulimit=core=0:0",
        f"--tmpfs={GUEST_TMP}:{tmpfs},size={spec.tmp_size}",
        f"--tmpfs={GUEST_PRIVATE}:{tmpfs},size={spec.private_size}",
    ]


async def _kernel(folder: Path, *, flush: bool) -> float:
    started = time.perf_counter()
    async with bare_kernel(folder) as client:
        await (client.wait_for_ready() if flush else ready(client))
        await run_cell(client, CELL)
        return time.perf_counter() - started
