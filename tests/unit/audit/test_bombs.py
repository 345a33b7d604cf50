"""What is made of a bomb's outcome."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from rlm_kernel.audit.bombs import BOMBS, HOST_GROWTH, SLOWEST, Blast, given, is_too_slow, judge, unjudged
from rlm_kernel.audit.claims import Finding, Scene
from rlm_kernel.errors import SandboxLost
from rlm_kernel.kernel import CellResult
from tests.unit.audit.conftest import MIB

NAMED = {bomb.name: bomb for bomb in BOMBS}


def told(got: dict[str, int], stopped: str, then: str = "") -> Any:
    """Return the output of a bomb that tells how far it got."""
    return (
        {"output_type": "stream", "name": "stdout", "text": f"{json.dumps({'got': got, 'stopped': stopped})}\n{then}"},
    )


FINE: dict[str, Any] = {
    "forks": {"outputs": told({"processes": 240}, "EAGAIN", "Traceback\n")},
    "threads": {"outputs": told({"threads": 256}, "can't start new thread")},
    "memory": {"status": "kernel_died"},
    "disk": {"outputs": told({"/tmp": 64 * MIB, "/dev/shm": 16 * MIB, "/run/rlm-guest": 4 * MIB}, "No space left")},
    "descriptors": {"outputs": told({"files": 900}, "EMFILE")},
    "output": {"cut": 10**9},
    "regex": {},
    "kills": {"outputs": told({}, "ESRCH")},
}


def finding(scene: Scene, name: str, *, error: SandboxLost | None = None, **changes: Any) -> Finding:
    """Judge a bomb whose cell ended as it should, but for `changes` to its result or to what else was seen."""
    seen: dict[str, Any] = {"usable": True, "slowest": 0.1, "grown": 0}
    result: dict[str, Any] = {"cell": 1, "status": "timed_out", "seconds": 1.5} | FINE[name]
    for key, value in changes.items():
        (seen if key in seen else result)[key] = value
    blast = Blast(result=None if error else CellResult(**result), error=error, **seen)
    return judge(NAMED[name], blast, scene)


@pytest.mark.parametrize("name", NAMED)
def test_a_bomb_that_is_contained_passes(scene: Scene, name: str) -> None:
    """Within its limit, with its session and the neighbour well, a bomb is no failure."""
    assert finding(scene, name).verdict == "pass"


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize(
    "change",
    [{"slowest": None}, {"slowest": SLOWEST + 1}, {"grown": HOST_GROWTH + 1}, {"usable": False}],
    ids=["neighbour lost", "neighbour slow", "host grew", "session broken"],
)
def test_a_bomb_that_is_felt_elsewhere_fails(scene: Scene, name: str, change: dict[str, Any]) -> None:
    """A neighbour lost or slowed, a host that grows, a session broken without a word: all are failures."""
    assert finding(scene, name, **change).verdict == "fail"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("forks", {"outputs": told({"processes": 257}, "EAGAIN")}),
        ("forks", {"outputs": told({"processes": 512}, "nothing")}),
        ("threads", {"outputs": told({"threads": 512}, "nothing")}),
        ("memory", {"status": "ok", "outputs": told({"bytes": 1280 * MIB}, "nothing")}),
        ("disk", {"outputs": told({"/tmp": 65 * MIB, "/dev/shm": 16 * MIB, "/run/rlm-guest": 4 * MIB}, "ENOSPC")}),
        ("disk", {"outputs": told({"/tmp": 64 * MIB}, "ENOSPC")}),
        ("descriptors", {"outputs": told({"files": 2048}, "nothing")}),
        ("output", {"cut": 0}),
        ("regex", {"status": "ok"}),
    ],
)
def test_a_bomb_that_gets_more_than_its_limit_fails(scene: Scene, name: str, change: dict[str, Any]) -> None:
    """Where the limit is not in force the claim fails."""
    assert finding(scene, name, **change).verdict == "fail"


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"got": {"x": -1}, "stopped": "y"}', '{"got": {"x": 1}}', '{"got": 1, "stopped": "y"}', "[" * 100_000],
)
def test_an_answer_that_is_none_of_ours_fails(scene: Scene, text: str) -> None:
    """What a bomb prints is hostile; anything but what ours print means that nothing is known."""
    outputs = ({"output_type": "stream", "name": "stdout", "text": text},)
    assert finding(scene, "forks", outputs=outputs).verdict == "fail"


def test_a_bomb_that_needs_more_time() -> None:
    """One whose time is up before it tells anything is tried again; one that told, or tells nothing ever, is not."""

    def blast(**result: Any) -> Blast:
        ended: dict[str, Any] = {"cell": 1, "status": "timed_out", "seconds": 1.5} | result
        return Blast(result=CellResult(**ended), error=None, usable=True, slowest=0.1, grown=0)

    assert is_too_slow(NAMED["forks"], blast())
    assert not is_too_slow(NAMED["forks"], blast(outputs=told({"processes": 1}, "x")))
    assert not is_too_slow(NAMED["memory"], blast(status="kernel_died"))
    assert not is_too_slow(NAMED["regex"], blast())


def test_under_a_kernel_of_its_own(scene: Scene) -> None:
    """There a bomb may be too slow to get to its limit, or end its kernel; what it tells still has to be right."""
    gvisor = replace(scene, oci_runtime="runsc")
    assert finding(gvisor, "forks", outputs=()).verdict == "pass"
    assert finding(gvisor, "forks", status="kernel_died").verdict == "pass"
    assert finding(gvisor, "forks", outputs=told({"processes": 512}, "nothing")).verdict == "fail"
    assert finding(gvisor, "forks", outputs=(), usable=False).verdict == "fail"
    assert finding(scene, "forks", outputs=()).verdict == "fail"


def test_only_some_bombs_may_end_their_session(scene: Scene) -> None:
    """A typed error is a fair end for memory; a fork bomb's session has to live on."""
    assert finding(scene, "memory", error=SandboxLost("gone")).verdict == "pass"
    assert finding(scene, "forks", error=SandboxLost("gone")).verdict == "fail"


def test_what_was_not_tried_fails() -> None:
    """An audit that ended early has a failure for each bomb."""
    assert [found.verdict for found in unjudged("gone")] == ["fail"] * len(BOMBS)


def test_bombs_are_told_the_limits(scene: Scene) -> None:
    """They stop on their own beyond these, so that an engine without limits survives its audit."""
    assert set(given(scene.spec)) == {"pids", "memory", "nofile", "disk"}
