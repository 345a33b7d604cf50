"""`rlm-kernel audit` and `doctor` on the real engine, and on one that gives less than is asked for."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import docker
import pytest

from rlm_kernel.sandbox.container import LABEL
from tests.e2e.conftest import Program, containers_of
from tests.support.engine_proxy import weakened_engine

AUDIT = ("-m", "rlm_kernel", "audit")
LIMITS = {"inside.host-paths", "inside.shared-kernel", "inside.user-namespace", "engine.user-namespace"}
"""What containers under runc show by their nature, on an engine that maps no users."""
MACHINES = {
    "cis.5.2",
    "engine.runc",
    "inside.confinement",
}
"""What depends on the engine's version and its machine."""


def test_this_engine_passes(program: Program) -> None:
    """Every claim holds or is a known limit with reason and remedy; it is done within 3 minutes."""
    ended = program.run(*AUDIT, "--json")
    report = ended.json
    failures = [finding for finding in report["findings"] if finding["verdict"] == "fail"]
    assert failures == []
    assert (ended.status, ended.err, report["passed"]) == (0, "", True)
    limits = [finding for finding in report["findings"] if finding["verdict"] == "known-limit"]
    assert LIMITS <= {finding["claim"] for finding in limits} <= LIMITS | MACHINES
    assert all(finding["reason"] and finding["remedy"] for finding in limits)
    assert all(finding["tried"] and finding["seen"] for finding in report["findings"])
    assert len(report["findings"]) == len({finding["claim"] for finding in report["findings"]})
    assert sum(report["counts"].values()) == len(report["findings"]) > 70
    assert report["seconds"] < 180


@pytest.mark.soak
def test_gvisor_passes(program: Program, engine: docker.APIClient) -> None:
    """Under gVisor no claim fails either, and the host's kernel is not to be seen."""
    if "runsc" not in engine.info()["Runtimes"]:
        pytest.skip("the engine has no runsc: `make gvisor` adds it")
    ended = program.run(*AUDIT, "--json", "--oci-runtime", "runsc")
    verdicts = {finding["claim"]: finding["verdict"] for finding in ended.json["findings"]}
    assert [claim for claim, verdict in verdicts.items() if verdict == "fail"] == []
    assert (ended.status, verdicts["inside.shared-kernel"], verdicts["engine.runc"]) == (0, "pass", "pass")


async def test_an_engine_that_gives_less_fails(program: Program, tmp_path: Path) -> None:
    """The table says what was refused, in plain text for a pipe, and the exit status that something failed."""
    async with weakened_engine(tmp_path / "engine", {"CapDrop": []}) as address:
        ended = await asyncio.to_thread(program.run, *AUDIT, "--docker-host", address, "--carrier", "socket")
    assert ended.status == 51
    assert "fail         Every limit that is asked for is in force  [sandbox.given]" in ended.out
    assert "so there are capabilities" in ended.out
    assert "could not be checked" in ended.out
    assert "\x1b" not in ended.out + ended.err


def test_the_doctor_finds_this_machine_ready(program: Program) -> None:
    """With an engine, an image and a model there is nothing to mend; it takes seconds and starts nothing."""
    began = time.monotonic()
    ended = program.run("-m", "rlm_kernel", "doctor", "--json", "--model", "scripted:turns.md")
    assert time.monotonic() - began < 10
    assert [check for check in ended.json["checks"] if check["state"] == "problem"] == []
    assert (ended.status, ended.err, ended.json["ready"]) == (0, "", True)
    assert {"engine", "limits", "seccomp", "storage", "image", "state-folder", "leftovers"} <= {
        check["name"] for check in ended.json["checks"]
    }


def test_without_an_engine(program: Program) -> None:
    """An engine that does not answer has a status of its own, with `--json` too."""
    ended = program.run(*AUDIT, "--json", "--docker-host", "unix:///nowhere.sock")
    assert (ended.status, ended.json["error"]) == (21, "EngineUnavailable")


def test_ctrl_c_leaves_nothing(program: Program, engine: docker.APIClient) -> None:
    """An interrupted audit removes its containers; the fixture looks for them."""
    starts = engine.events(decode=True, filters={"label": LABEL, "event": "start"})
    process = program.start(*AUDIT, "--json")
    while not containers_of(engine, process.pid):
        next(starts)
    starts.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
