"""`rlm-kernel runs show`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import pytest

from rlm_kernel.events import RunOrigin
from tests.support.recorded import USED, finished, of, run_id, started, write_run
from tests.unit.cli.conftest import RunCommand

KEPT = Path(__file__).parents[3] / "recordings" / "v1"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state folder of `command`, with the kept recordings and a fork of one of them."""
    folder = tmp_path / "state" / "rlm_kernel"
    for number, name in enumerate(("session", "children")):
        shutil.copytree(KEPT / name, folder / "runs" / run_id(number))
    write_run(folder, run_id(2), [started(run_id(2), origin=of(run_id(0))), finished()])
    return folder


@pytest.mark.usefixtures("state")
def test_it_says_what_the_run_was_and_came_to(command: RunCommand) -> None:
    """Question and answer, models, image, context, limits and use, then the tree."""
    out = command("runs", "show", run_id(1)).out
    for words in (
        "answered, 2026-11-21T",
        "models     scripted:child.md, sub-calls scripted:child.md",
        "sha256:8cee2c09189471daedcc155d0ac94a5b1765cf6b257383307249760ce5d67d7b",
        "context    context: json, 49 bytes, 888c5730f8b5",
        "limit      max_subcalls: 2 of 10000",
        "used       scripted:child.md: 3 calls",
        "question   How many sentences has each chapter?",
        "answer     2, 1",
        "run · answered · 0.8s · 2 sub-calls",
        "├─ session s1 · answered",
        "└─ session s2 · answered",
    ):
        assert words in out


@pytest.mark.usefixtures("state")
def test_parts_are_shown_alone(command: RunCommand) -> None:
    """A session below, a turn, and a cell with its code and output; a part that is not there is an error."""
    assert command("runs", "show", run_id(1), "--node", "s2").out.startswith("session s2 · answered")
    assert (
        command("runs", "show", run_id(0), "--turn", "2").out.splitlines()[-1].lstrip(" │└─").startswith("s3 sub-call")
    )
    cell = command("runs", "show", run_id(0), "--cell", "3").out
    assert cell.startswith("1 / 0\n---\n")
    assert "ZeroDivisionError: division by zero" in cell
    assert command("runs", "show", run_id(0), "--cell", "99").status == 17


@pytest.mark.usefixtures("state")
def test_json_holds_the_same(command: RunCommand) -> None:
    """The facts, and the tree with its sums."""
    told = json.loads(command("runs", "show", run_id(0), "--json").out)
    assert [question["status"] for question in told["questions"]] == ["answered", "answered"]
    assert told["tree"]["usage"] == told["usage"]
    assert told["tree"]["below"][0]["kind"] == "question"


def test_the_family_is_shown(command: RunCommand, state: Path) -> None:
    """From either side, and when the first of it is gone; a run without one has none."""
    for run in (run_id(0), run_id(2)):
        lines = [line for line in command("runs", "show", run).out.splitlines() if line.startswith("family")]
        assert [line.removesuffix("  (this one)") for line in lines] == [
            f"family     {run_id(0)}  answered",
            f"family       fork at turn 1: {run_id(2)}  answered",
        ]
        assert sum(line.endswith(f"{run}  answered  (this one)") for line in lines) == 1
    shutil.rmtree(state / "runs" / run_id(0))
    assert f"{run_id(0)}  gone" in command("runs", "show", run_id(2)).out
    assert "\nfamily" not in command("runs", "show", run_id(1)).out


def test_what_stands_before_damage_is_shown(command: RunCommand, state: Path) -> None:
    """With the damage on standard error, and its exit status; a torn last line is no damage."""
    events = state / "runs" / run_id(0) / "events.jsonl"
    lines = events.read_bytes().splitlines(keepends=True)
    events.write_bytes(b"".join(lines[:20]) + b'{"v":1')
    ended = command("runs", "show", run_id(0))
    assert ended.status == 0
    assert "its last line is torn: 6 bytes" in ended.out
    assert "broken-off" in ended.out
    events.write_bytes(b"".join([*lines[:20], b"{}\n", *lines[20:]]))
    ended = command("runs", "show", run_id(0))
    assert ended.status == 18
    assert "What are the lines about?" in ended.out
    assert "line 21" in ended.err


@pytest.mark.usefixtures("state")
def test_what_was_used_before_a_resume_is_told(command: RunCommand, state: Path) -> None:
    """Apart from the run's own use, and as part of what its limits allow."""
    origin = RunOrigin(how="resume", run=run_id(1), records=3, head="0" * 64, usage=USED, seconds=9)
    first = msgspec.structs.replace(started(run_id(3), origin=origin), settings={"max_total_tokens": 1_000})
    write_run(state, run_id(3), [first, finished()])
    out = command("runs", "show", run_id(3)).out
    assert "used       fake:root: 2 calls, 100 in, 20 out, $0.50" in out
    assert "before     fake:root: 2 calls, 100 in, 20 out, $0.50" in out
    assert "limit      max_total_tokens: 120 of 1000" in out
