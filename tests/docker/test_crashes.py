"""kill -9 of a run at every step of its life: what it leaves ends by itself or with the next sweep."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import docker
import psutil
import pytest

from rlm_kernel.assembly.sweeping import sweep
from rlm_kernel.config import Settings
from rlm_kernel.recording.reader import read_events
from rlm_kernel.sandbox.container import LABEL
from rlm_kernel.sandbox.spec import Carrier
from tests.support.crash import STEPS
from tests.support.crashing import DEADLINE, Run


def containers_of(engine: docker.APIClient, run: Run) -> list[dict[str, Any]]:
    """Return the containers that a run made."""
    found = engine.containers(all=True, filters={"label": [f"{LABEL}.owner"]})
    return [
        container for container in found if container["Labels"][f"{LABEL}.owner"].split(":")[1] == str(run.process.pid)
    ]


def uids(containers: list[dict[str, Any]]) -> set[int]:
    """Return the users that containers run as."""
    return {int(name.rpartition("-")[2]) for container in containers for name in container["Names"]}


def processes_as(users: set[int]) -> list[psutil.Process]:
    """Return the processes of these users, shells that hold a container's name included."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.uids().real in users:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def assert_ended_as_told(run: Run) -> None:
    """The recording can be read, and ends with the last event that happened."""
    recordings = list(run.state.glob("runs/*/events.jsonl"))
    assert len(recordings) == (1 if run.told else 0)
    for recording in recordings:
        torn: list[int] = []
        recorded = [type(record.event).__name__ for record in read_events(recording, on_torn=torn.append)]
        assert torn == []
        assert recorded[: len(run.told)] == run.told
        assert len(recorded) <= len(run.told) + 1  # one may be recorded and not yet told


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_run_leaves_nothing(
    engine: docker.APIClient, image: str, carrier: Carrier, step: str, tmp_path: Path
) -> None:
    """What runs in a container ends with its host; one sweep removes the rest; the recording is whole."""
    run = Run(step, carrier, tmp_path / "state")
    try:
        run.until_stopped()
        users = uids(containers_of(engine, run))
        run.kill()
        deadline = time.monotonic() + DEADLINE
        while any(container["State"] != "created" for container in containers_of(engine, run)):
            assert time.monotonic() < deadline, containers_of(engine, run)
            time.sleep(0.05)
        left = sweep(Settings(state_dir=run.state))
        assert [leftover for leftover in left if leftover.error or leftover.kind == "process"] == []
        assert containers_of(engine, run) == []
        assert processes_as(users) == []
        with pytest.raises(ProcessLookupError):
            os.killpg(run.process.pid, 0)
        assert list(run.state.glob("sessions/*")) == []
        assert [path for path in run.state.rglob("*") if path.name.startswith(".part-")] == []
        assert_ended_as_told(run)
    finally:
        run.close()
