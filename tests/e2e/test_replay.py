"""`rlm-kernel replay`: real runs, and recordings of each version, run again and compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel.cli import exits
from rlm_kernel.errors import ContextMissing
from tests.e2e.conftest import Program
from tests.support.edited import edit

RECORDINGS = Path(__file__).parents[1] / "recordings"
REPLAY = ("-m", "rlm_kernel", "replay")
IDENTICAL = "import random\nprint(len(context), hash('a'), random.random(), {'x', 'y', 'z'})"
NORMALISED = (
    "import time\nprint(object(), time.strftime('%Y-%m-%d %H:%M:%S'), '%.4f s' % time.perf_counter())\n{object()}"
)
VARIES = "import uuid\nname = uuid.uuid4()"
CARRIED = "print(name)"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a state folder with the run is once it is recorded."""
    return tmp_path_factory.mktemp("recorded") / "state"


@pytest.fixture
def recorded(program: Program, script: Callable[..., str], tmp_path: Path, state: Path) -> Path:
    """The folder of a run with a cell of each kind, which is recorded once for all tests."""
    if not state.exists():
        (tmp_path / "text.txt").write_text("banana")
        cells = (IDENTICAL, NORMALISED, VARIES, CARRIED, "print('six')\nFINAL(6)")
        model = ("--model", script(*cells), "--context", str(tmp_path / "text.txt"))
        assert program.run("-m", "rlm_kernel", "run", *model, "How many?").status == 0
        shutil.copytree(program.state, state)
    else:
        shutil.copytree(state, program.state, dirs_exist_ok=True)
    (folder,) = (program.state / "rlm_kernel" / "runs").iterdir()
    return folder


def outcomes(report: dict[str, Any]) -> list[str]:
    """What each cell and answer of a report came to."""
    compared = report["comparison"]
    return [each["outcome"] for each in (*compared["cells"], *compared["answers"])]


def test_a_run_and_the_same_edited(program: Program, recorded: Path) -> None:
    """Each cell comes to what it should, nothing is kept, and who edits the recording finds it different."""
    ended = program.run(*REPLAY, "last", "--json")
    report = json.loads(ended.out)
    assert outcomes(report) == ["identical", "normalised", "identical", "varies", "identical", "identical"]
    cells = report["comparison"]["cells"]
    assert {"addresses", "durations"} <= set(cells[1]["rules"])
    assert cells[3]["reads"] == ["cell 3: uuid, uuid4"]
    assert (ended.status, report["differs"], report["changed"], report["error"]) == (0, False, [], None)
    assert [folder.name for folder in recorded.parent.iterdir()] == [recorded.name] == [report["run"]]

    def change(event: dict[str, Any]) -> None:
        if event["type"] == "AnswerGiven":
            event["answer"] = "7"
        if event["type"] == "CellOutput" and "six" in event["output"].get("text", ""):
            event["output"]["text"] = "seven \x1b[2J\n"

    edit(recorded / "events.jsonl", change)
    differs = program.run(*REPLAY, str(recorded), "--keep")
    assert differs.status == 54
    assert "-seven \\x1b[2J\n    +six\n" in differs.out
    assert "answer 1     different · in answer 1" in differs.out
    assert differs.out.splitlines()[-1].startswith(
        "5 cells: 2 identical, 1 normalised, 1 varies, 1 different · 1 answer: 1 d"
    )
    assert len(list(recorded.parent.iterdir())) == 2


def test_what_can_not_be_replayed(program: Program, recorded: Path, tmp_path: Path) -> None:
    """A context that is gone, which may be given again, and a recording that was edited without care."""
    shutil.rmtree(program.state / "rlm_kernel" / "contexts")
    gone = program.run(*REPLAY, "last")
    assert (gone.status, gone.out) == (exits.BY_ERROR[ContextMissing], "")
    assert "--context" in gone.err
    (tmp_path / "other.txt").write_text("bananas")
    given = program.run(*REPLAY, "last", "-q", "--context", str(tmp_path / "other.txt"))
    assert given.status == 54

    def change(event: dict[str, Any]) -> None:
        if event["type"] == "AnswerGiven":
            event["answer"] = "7"

    edit(recorded / "events.jsonl", change, chained=False)
    damaged = program.run(*REPLAY, "last")
    assert damaged.status == 18
    assert "it does not follow on the line before it" in damaged.err


def test_going_on_live(program: Program, recorded: Path, tmp_path: Path) -> None:
    """The turns before run again and are compared, then another model goes on in their state; the run is kept."""
    (tmp_path / "live.md").write_text("--- turn ---\n```repl\nFINAL(str(len(context)) + name.hex[:0])\n```\n")
    model = f"scripted:{tmp_path / 'live.md'}"
    live = ("--live-from", "4", "--model", model, "--sub-model", model)
    ended = program.run(*REPLAY, "last", *live, "--json")
    report = json.loads(ended.out)
    assert outcomes(report) == ["identical", "normalised", "identical"]
    assert (ended.status, report["live"]["answer"], report["live"]["run"]) == (0, "6", report["replay"])
    assert len(list(recorded.parent.iterdir())) == 2


@pytest.mark.parametrize(
    "name", sorted(str(path.relative_to(RECORDINGS).parent) for path in RECORDINGS.glob("*/*/events.jsonl"))
)
def test_recordings_of_each_version(program: Program, name: str) -> None:
    """They replay, from their folder alone, with nothing different."""
    ended = program.run(*REPLAY, str(RECORDINGS / name), "--json")
    report = json.loads(ended.out)
    assert set(outcomes(report)) <= {"identical", "normalised"}
    assert ended.status == 0
