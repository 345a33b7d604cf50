"""`rlm-kernel runs compare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel.events import (
    AnswerGiven,
    AnyEvent,
    CellFinished,
    CellOutput,
    CellStarted,
    ModelReplied,
    ModelRequested,
    QuestionAsked,
    TurnStarted,
)
from rlm_kernel.types import Usage
from tests.support.recorded import finished, run_id, started, stored, write_run
from tests.unit.cli.conftest import RunCommand


def _events(run: str, printed: list[str], digest: str, answer: str, **changed: Any) -> list[AnyEvent]:
    usage = Usage(calls=1, input_tokens=100 * len(printed), output_tokens=5, cost_usd=0.25)
    first = started(run, **changed)
    first.settings.update({"max_turns": 30 if not changed else 10, "cpus": 1})
    events: list[AnyEvent] = [first, stored(digest * 64), QuestionAsked(ask=1, question="How many?")]
    for number, text in enumerate(printed, 1):
        events += [
            TurnStarted(turn=number),
            ModelRequested(call=f"m{number}", model="fake:root", history=0, messages=[]),
            ModelReplied(
                call=f"m{number}", text="", finish_reason="stop", usage=usage, seconds=1, attempts=1, served_by="m"
            ),
            CellStarted(cell=number, turn=number, code=f"print({number})"),
            CellOutput(cell=number, output={"output_type": "stream", "name": "stdout", "text": text}),
            CellFinished(cell=number, status="ok", seconds=1),
        ]
    return [*events, AnswerGiven(answer=answer, source="FINAL"), finished(answer=answer)]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Four runs: two alike but for an address, one with another second cell and answer, one of its own kind."""
    folder = tmp_path / "state" / "rlm_kernel"
    printed = ["one\n", "<object at 0x7f1122334455>\n"]
    write_run(folder, run_id(1), _events(run_id(1), printed, "a", "42"))
    write_run(folder, run_id(2), _events(run_id(2), ["one\n", "<object at 0x7faabbccddee>\n"], "a", "42"))
    write_run(folder, run_id(3), _events(run_id(3), ["one\n", "zwei\n", "three\n"], "b", "43", model="fake:other"))
    return folder


@pytest.mark.usefixtures("state")
def test_runs_that_are_the_same_but_for_what_differs_each_time(command: RunCommand) -> None:
    """Status 0, and no line for what is equal."""
    ended = command("runs", "compare", run_id(1), run_id(2))
    assert ended.status == 0
    assert "cells: 1 identical, 1 normalised" in ended.out
    assert "answers: 1 the same, 0 not" in ended.out
    assert "model" not in ended.out
    assert "context" not in ended.out


@pytest.mark.usefixtures("state")
def test_what_differs_is_shown_side_by_side(command: RunCommand) -> None:
    """Models, settings, contexts, what was taken, the first cell that differs and the answers; status 54."""
    ended = command("runs", "compare", run_id(1), run_id(3))
    assert ended.status == 54
    rows = [line.split() for line in ended.out.splitlines()]
    for words in (
        ["model", "fake:root", "fake:other"],
        ["setting", "max_turns", "30", "10"],
        ["turns", "2", "3", "1.50x"],
        ["tokens", "in", "400", "900", "2.25x"],
        ["cost", "$0.50", "$0.75", "1.50x"],
    ):
        assert words in rows
    assert "aaaaaaaaaaaa, 3 bytes" in ended.out
    assert "they part at cell 2 (turn 2): different in stdout" in ended.out
    assert "    +zwei" in ended.out
    assert "    +++ stdout, B" in ended.out
    assert "    -42" in ended.out
    assert "cells: 1 identical, 1 different, 1 more" in ended.out


@pytest.mark.usefixtures("state")
def test_json_holds_the_same(command: RunCommand) -> None:
    """Both sides, and where they part."""
    told = json.loads(command("runs", "compare", run_id(1), run_id(3), "--json").out)
    assert told["same"] is False
    assert told["settings"] == {"max_turns": [30, 10]}
    assert told["parted"]["cell"] == 2
    assert told["b"]["sums"]["usage"]["fake:root"]["calls"] == 3


def test_long_differences_are_cut(command: RunCommand, state: Path) -> None:
    """The output stays readable, whatever the cells printed."""
    for number, word in ((5, "a"), (6, "b")):
        text = "".join(f"{word} {line}\n" for line in range(20_000))
        write_run(state, run_id(number), _events(run_id(number), [text], "a", text))
    ended = command("runs", "compare", run_id(5), run_id(6))
    assert ended.status == 54
    assert len(ended.out.splitlines()) < 150
