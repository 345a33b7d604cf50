"""kill -9 of a whole run, at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import docker
import pytest

from rlm_kernel.assembly.sweeping import sweep
from rlm_kernel.config import Settings
from rlm_kernel.sandbox.container import LABEL

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

ROUNDS = 40
LATEST = 3.0
"""Seconds after the start of a run; by then its cell runs."""
DEADLINE = 10.0
SCRIPT = """--- turn ---
```repl
import subprocess, time
busy = [subprocess.Popen(["python3", "-c", "while True: pass"]) for _ in range(2)]
for _ in range(600): time.sleep(0.1)
```
"""


def containers_of(engine: docker.APIClient, pid: int) -> list[dict[str, Any]]:
    """Return the containers that the process `pid` started."""
    found = engine.containers(all=True, filters={"label": [f"{LABEL}.owner"]})
    return [container for container in found if container["Labels"][f"{LABEL}.owner"].split(":")[1] == str(pid)]


def wait_until_stopped(engine: docker.APIClient, pid: int) -> float:
    """Return the seconds until no container of `pid` runs any more."""
    began = time.monotonic()
    while any(container["State"] != "created" for container in containers_of(engine, pid)):
        assert time.monotonic() < began + DEADLINE, containers_of(engine, pid)
        time.sleep(0.05)
    return time.monotonic() - began


def test_kill_at_any_moment_leaves_nothing_running(engine: docker.APIClient, image: str, tmp_path: Path) -> None:
    """Whenever a run is killed, its container ends by itself; what was never started goes with a sweep."""
    (tmp_path / "script.md").write_text(SCRIPT)
    (tmp_path / "text.txt").write_text("text")
    command = [sys.executable, "-m", "rlm_kernel", "run", "--model", f"scripted:{tmp_path}/script.md"]
    command += ["--context", str(tmp_path / "text.txt"), "why?"]
    seed = random.randrange(2**32)
    moments = random.Random(seed)
    pids: list[int] = []
    state = tmp_path / "state"
    ran, slowest = 0, 0.0
    for _ in range(ROUNDS):
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"XDG_STATE_HOME": str(state)},
            start_new_session=True,
        )
        pids.append(process.pid)
        time.sleep(moments.uniform(0.2, LATEST))
        ran += any(container["State"] == "running" for container in containers_of(engine, process.pid))
        process.kill()
        assert process.wait(10) == -signal.SIGKILL
        slowest = max(slowest, wait_until_stopped(engine, process.pid))
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
    swept = sweep(Settings(state_dir=state / "rlm_kernel"))
    assert [left for left in swept if left.error] == []
    assert [container for pid in pids for container in containers_of(engine, pid)] == []
    assert list(state.glob("rlm_kernel/sessions/*")) == []
    print(
        f"seed {seed}: {ROUNDS} kills, {ran} with a container running, {len(swept)} things swept at the end, "
        f"the slowest end took {slowest:.2f} s"
    )
    assert ran >= ROUNDS // 4
