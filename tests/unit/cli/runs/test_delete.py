"""`rlm-kernel runs delete` and `prune`."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from rlm_kernel.recording import RecordingLog
from rlm_kernel.sandbox.contexts import ContextStore
from tests.support.recorded import finished, of, run_id, started, stored, write_run
from tests.unit.cli.conftest import RunCommand
from tests.unit.recording.test_removal import DAY, aged


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Three runs, the later ones a day younger each; the second is a fork of the first, and each has a context."""
    folder = tmp_path / "state" / "rlm_kernel"
    store = ContextStore(folder / "contexts")
    for number in range(3):
        context = store.put_value(f"context {number}")
        os.utime(context.path, (time.time() - DAY, time.time() - DAY))
        run = run_id(number)
        origin = of(run_id(0)) if number == 1 else None
        aged(
            write_run(folder, run, [started(run, origin=origin), stored(context.digest), finished()]),
            (3 - number) * DAY,
        )
    return folder


def _left(state: Path) -> list[int]:
    return sorted(int(path.name[-8:], 16) for path in (state / "runs").iterdir())


def test_runs_are_deleted_by_name(command: RunCommand, state: Path) -> None:
    """Those that are from them stay, and are told."""
    ended = command("runs", "delete", run_id(0), "last", "last", "--yes")
    assert ended.status == 0
    assert ended.out == f"deleted {run_id(0)}\ndeleted {run_id(2)}\n"
    assert f"stay: {run_id(1)}" in ended.err
    assert _left(state) == [1]
    assert json.loads(command("runs", "delete", "last", "--yes", "--json").out) == {
        "deleted": [run_id(1)],
        "from_them": [],
    }


def test_nothing_goes_without_a_yes(command: RunCommand, state: Path) -> None:
    """Where there is no terminal to ask on; and nothing at all if one of the runs can't be."""
    assert command("runs", "delete", run_id(0)).status == 2
    assert command("runs", "prune", "--keep-last", "0").status == 2
    assert command("runs", "delete", run_id(0), "nothing", "--yes").status == 17
    with RecordingLog(state, run_id(9)) as log:
        ended = command("runs", "delete", run_id(0), run_id(9), "--yes")
        assert ended.status == 17
        assert "is being written" in ended.err
        assert log.path.exists()
    assert _left(state) == [0, 1, 2, 9]


def test_what_a_person_says_counts(command: RunCommand, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal it is asked: no leaves all, yes removes."""
    monkeypatch.setattr("rlm_kernel.cli.runs.delete._terminal", lambda: True)
    for word, left in ((b"n\n", [0, 1, 2]), (b"y\n", [1, 2])):
        ended = command("runs", "delete", run_id(0), stdin=word)
        assert ended.status == 0, ended.err
        assert _left(state) == left


def test_a_rule_removes_runs_and_what_they_alone_needed(command: RunCommand, state: Path) -> None:
    """A dry run tells the same and removes nothing; contexts of runs that stay are kept."""
    contexts = state / "contexts"
    told = json.loads(command("runs", "prune", "--keep-days", "1.5", "--dry-run", "--json").out)
    assert [each["run"] for each in told["runs"]] == [run_id(1), run_id(0)]
    assert len(told["contexts"]) == 2
    assert _left(state) == [0, 1, 2]
    ended = command("runs", "prune", "--keep-days", "1.5", "--yes")
    assert ended.status == 0
    assert "2 runs" in ended.err
    assert "2 contexts" in ended.err
    assert _left(state) == [2]
    assert len([path for path in contexts.iterdir() if len(path.name) == 64]) == 1
    nothing = {"dry_run": False, "runs": [], "contexts": [], "problem": None}
    assert json.loads(command("runs", "prune", "--json").out) == nothing


def test_the_rule_may_stand_in_the_settings(command: RunCommand, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts where the command names none; what the command names goes before it."""
    monkeypatch.setenv("RLM_KERNEL_KEEP_RUNS_DAYS", "1.5")
    assert command("runs", "prune", "--max-size", "1g", "--yes").status == 0
    assert _left(state) == [0, 1, 2]
    assert command("runs", "prune", "--keep-last", "2", "--yes").status == 0
    assert _left(state) == [1, 2]
    assert command("runs", "prune", "--yes").status == 0
    assert _left(state) == [2]


def test_nothing_is_removed_through_a_link(command: RunCommand, state: Path, tmp_path: Path) -> None:
    """Neither runs nor contexts that lie elsewhere."""
    (tmp_path / "linked").mkdir()
    for name in ("runs", "contexts"):
        (tmp_path / "linked" / name).symlink_to(state / name)
    assert command("runs", "prune", "--keep-last", "0", "--yes", "--state-dir", str(tmp_path / "linked")).status == 2
    assert _left(state) == [0, 1, 2]


@pytest.mark.parametrize("arguments", [["list"], ["delete", "last"], ["prune", "--keep-last", "0"], ["show", "last"]])
def test_a_state_folder_that_cannot_be_entered_is_told(
    command: RunCommand, tmp_path: Path, arguments: list[str]
) -> None:
    """With the way out."""
    ended = command("runs", *arguments, "--state-dir", str(tmp_path / ("x" * 300)))
    assert ended.status == 7
    assert "make it usable, or choose another folder" in ended.err


def test_contexts_stay_while_a_recording_cannot_be_read(command: RunCommand, state: Path) -> None:
    """Nobody knows what it needs. That is told, runs go all the same, and it can be deleted by name."""
    broken = write_run(state, run_id(5), [])
    (broken / "events.jsonl").unlink()
    os.mkfifo(broken / "events.jsonl")
    contexts = sorted((state / "contexts").iterdir())
    ended = command("runs", "prune", "--keep-days", "2.5", "--yes")
    assert (ended.status, _left(state)) == (17, [1, 2, 5])
    assert f"all contexts stay, as nobody knows what this run needs: {broken}" in ended.err
    assert sorted((state / "contexts").iterdir()) == contexts
    told = command("runs", "prune", "--keep-days", "1.5", "--dry-run", "--json")
    assert told.status == 17
    assert str(broken) in json.loads(told.out)["problem"]
    aged_folder = time.time() - DAY
    os.utime(broken / "events.jsonl", (aged_folder, aged_folder))
    assert command("runs", "delete", run_id(5), "--yes").status == 0
    assert command("runs", "prune", "--yes").status == 0
    assert sorted((state / "contexts").iterdir()) != contexts
