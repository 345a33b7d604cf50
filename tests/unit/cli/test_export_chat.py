"""`rlm-kernel export --to chat`, for one run and for many."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support.recorded import run_id, started, write_run
from tests.unit.cli.conftest import RunCommand

KEPT = Path(__file__).parents[2] / "recordings" / "v1" / "session"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A run of two questions, and one that was broken off before it had any."""
    runs = tmp_path / "state" / "rlm_kernel" / "runs"
    (runs / run_id(1)).mkdir(parents=True)
    shutil.copy(KEPT / "events.jsonl", runs / run_id(1))
    write_run(runs.parent, run_id(2), [started(run_id(2))])
    return runs


def test_one_run_and_all_runs(command: RunCommand, state: Path, tmp_path: Path) -> None:
    """To a file, whose name is the output, or to standard output; how many there are is said apart."""
    file = tmp_path / "train.jsonl"
    ended = command("export", run_id(1), "--to", "chat", "-o", str(file))
    assert (ended.status, ended.out.strip()) == (0, str(file))
    assert "2 conversations of 1 run\n" in ended.err
    assert [sorted(json.loads(line)) for line in file.read_text().splitlines()] == [["messages", "metadata"]] * 2
    (state / "other").mkdir()
    ended = command("export", "--all", "--to", "chat", "--level", "sub", "--status", "answered", "-o", "-")
    assert {json.loads(line)["metadata"]["level"] for line in ended.out.splitlines()} == {"sub"}


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize(
    "arguments",
    [
        ["--to", "chat"],
        [run_id(1), "--all", "--to", "chat"],
        [run_id(1), run_id(2), "--to", "md"],
        ["--all"],
        [run_id(1), "--level", "sub"],
        [run_id(1), "--status", "failed"],
        [run_id(1), "--to", "chat", "--node", "s1"],
    ],
)
def test_what_does_not_go_together_is_bad_usage(command: RunCommand, arguments: list[str]) -> None:
    """Documents are of one run, training data has neither nodes nor cuts."""
    ended = command("export", *arguments)
    assert ended.status == 2
    assert "chat" in ended.err


def test_a_damaged_run_costs_no_other(command: RunCommand, state: Path) -> None:
    """What could be read is written, and the status says that there was more."""
    (state / run_id(2) / "events.jsonl").write_text("?\n")
    ended = command("export", "--all", "--to", "chat", "-o", "-")
    assert ended.status == 18
    assert len(ended.out.splitlines()) == 2
