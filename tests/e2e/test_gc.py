"""`rlm-kernel gc`, as a user runs it."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Program, group_is_gone

GC = ("-m", "rlm_kernel", "gc")


def of_ours(leftovers: list[dict[str, Any]], state: Path) -> list[tuple[str, str]]:
    """Return what a sweep found in the test's own state folder; the engine may hold what others left."""
    return [(left["kind"], Path(left["name"]).name) for left in leftovers if left["name"].startswith(str(state))]


def test_what_was_left_is_told_and_goes(program: Program) -> None:
    """A dry run names it, the real one removes it, and the next one finds nothing; recordings stay."""
    state = program.state / "rlm_kernel"
    for folder in ("sessions/0123456789abcdef/guest", "contexts", "runs/20261121T073000Z-1f0c9a3e"):
        (state / folder).mkdir(parents=True)
    (state / "contexts" / ".part-x").touch()
    expected = [("session folder", "0123456789abcdef"), ("unfinished file", ".part-x")]
    dry = program.run(*GC, "--dry-run", "--json").json
    assert (dry["dry_run"], of_ours(dry["leftovers"], state)) == (True, expected)
    ended = program.run(*GC)
    assert ended.status == 0
    lines = [line for line in ended.out.splitlines() if str(state) in line]
    assert [line.split("  ")[0].strip() for line in lines] == ["removed", "removed"]
    assert of_ours(program.run(*GC, "--json").json["leftovers"], state) == []
    assert sorted(path.name for path in state.rglob("*")) == [
        "20261121T073000Z-1f0c9a3e",
        "contexts",
        "runs",
        "sessions",
    ]


def test_without_an_engine_it_says_so(program: Program) -> None:
    """Nothing is removed where the engine can't be asked what still runs."""
    ended = program.run(*GC, "--json", "--docker-host", "unix:///no/engine")
    assert (ended.status, ended.json["error"]) == (21, "EngineUnavailable")


def test_a_killed_build_of_the_image_is_swept(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a build had made when it was killed goes with the next sweep."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = tmp_path / "rlm_kernel"
    process = program.start("-m", "rlm_kernel", "image", "build", "--rebuild", "--base", "debian")
    try:
        while not list(cache.glob(".part-*")):
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
        process.communicate()
        assert [left["kind"] for left in leftovers_in(program, cache)] == ["unfinished file"]
        assert list(cache.glob(".part-*")) == []
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it had started
        while not group_is_gone(process.pid):
            time.sleep(0.02)


def leftovers_in(program: Program, folder: Path) -> list[dict[str, Any]]:
    """Sweep and return what was removed below `folder`."""
    return [left for left in program.run(*GC, "--json").json["leftovers"] if left["name"].startswith(str(folder))]
