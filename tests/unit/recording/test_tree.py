"""The call tree of a recording, and its sums."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_kernel.errors import RecordingDamaged, RecordingError
from rlm_kernel.events import (
    AnyEvent,
    CellFinished,
    CellStarted,
    ModelReplied,
    ModelRequested,
    ModelRetried,
    QuestionAsked,
    SubcallFailed,
    SubcallReplied,
    SubcallRequested,
    ToolReplied,
    ToolRequested,
    TurnStarted,
)
from rlm_kernel.recording import EVENTS_FILE, Recording
from rlm_kernel.recording.tree import Branch, Opened, call_tree
from rlm_kernel.types import Origin, Usage
from tests.support.recorded import run_id, started, write_run

KEPT = Path(__file__).parents[2] / "recordings"
RUN = run_id(1)
ONE = Usage(calls=1, input_tokens=10, output_tokens=1, cost_usd=0.25)
OUTER = started(RUN)


def _turn(number: int) -> Iterator[AnyEvent]:
    yield TurnStarted(turn=number)
    yield ModelRequested(call=f"m{number}", model="root", history=0, messages=[])
    yield ModelReplied(
        call=f"m{number}", text="", finish_reason="stop", usage=ONE, seconds=1, attempts=1, served_by="root"
    )
    yield CellStarted(cell=number, turn=number, code="1")


def _answered(call: str, cell: int, seconds: float = 1.0, cached: Origin | None = None) -> Iterator[AnyEvent]:
    usage = ONE if cached is None else Usage()
    yield SubcallRequested(call=call, cell=cell, model="sub", prompt="?")
    yield SubcallReplied(
        call=call, text="", finish_reason="stop", usage=usage, seconds=seconds, attempts=1, served_by="s", cached=cached
    )


def _tree(tmp_path: Path, events: list[AnyEvent | tuple[AnyEvent, str]], **opened: object) -> Branch:
    folder = write_run(tmp_path, RUN, [started(RUN), QuestionAsked(ask=1, question="?"), *events])
    with Recording(folder / EVENTS_FILE) as recording:
        return call_tree(recording, Opened(**opened))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["session", "children"])
def test_the_sums_are_what_the_run_says_it_used(name: str) -> None:
    """In kept recordings, whatever is unfolded."""
    with Recording(KEPT / "v1" / name / EVENTS_FILE) as recording:
        assert recording.finished is not None
        for opened in (Opened(), Opened(full=True)):
            assert call_tree(recording, opened).sums.by_model == recording.finished.usage


def test_retries_and_failures_count_and_stored_answers_cost_nothing(tmp_path: Path) -> None:
    """Each attempt counts for the model that was asked."""
    stored = Origin(how="stored", run="r", at="2026-11-21T07:30:00Z")
    tree = _tree(
        tmp_path,
        [
            *_turn(1),
            *_answered("s1", 1, cached=stored),
            SubcallRequested(call="s2", cell=1, model="sub", prompt="?"),
            ModelRetried(call="s2", attempt=1, error="E", message="", wait=0, usage=ONE),
            ModelRetried(call="s2", attempt=2, error="E", message="", wait=0),
            SubcallFailed(call="s2", code="x", error="E", message="no", seconds=2, usage=ONE),
            ToolRequested(call="t1", cell=1, tool="count", arguments="{}"),
            ToolReplied(call="t1", result="1", seconds=0.5),
            SubcallRequested(call="s3", cell=1, model="sub", prompt="?"),
        ],
    )
    assert tree.sums.by_model == {"root": ONE, "sub": ONE + ONE}
    sums = tree.sums
    assert (sums.asked, sums.subcalls, sums.tools) == (1, 3, 1)
    assert (sums.failed, sums.cached, sums.open) == (1, 1, 1)
    cell = tree.below[0].below[0].below[0]
    assert [(call.name, call.status) for call in cell.below] == [
        ("s1", "ok"),
        ("s2", "failed"),
        ("s3", "open"),
        ("t1", "ok"),
    ]
    assert (tree.status, cell.status) == ("broken-off", "open")


def test_like_calls_are_one_branch(tmp_path: Path) -> None:
    """With their median time and their sums, unless they are asked for one by one."""
    events = [*_turn(1), *(event for n in range(5) for event in _answered(f"s{n}", 1, float(n * n)))]
    group = _tree(tmp_path / "a", [*events]).below[0].below[0].below[0].below
    assert [(each.kind, each.text, each.count, each.middle) for each in group] == [("llm", "sub", 5, 4.0)]
    assert group[0].sums.usage.cost_usd == 1.25
    assert len(_tree(tmp_path / "b", [*events], cell=1).below) == 5


def test_the_middle_of_many_turns_is_one_branch(tmp_path: Path) -> None:
    """Their sums are not lost; what is asked for alone is whole."""
    events = [event for n in range(1, 101) for event in (*_turn(n), CellFinished(cell=n, status="ok", seconds=1))]
    question = _tree(tmp_path / "a", [*events]).below[0]
    assert len(question.below) == 13
    folded = question.below[6]
    assert (folded.name, folded.until, folded.count, folded.sums.usage.calls) == ("7", "94", 88, 88)
    assert question.sums.usage.calls == 100
    assert len(_tree(tmp_path / "b", [*events], full=True).below[0].below) == 100
    turn = _tree(tmp_path / "c", [*events], turn=50)
    assert (turn.name, [each.kind for each in turn.below]) == ("50", ["model", "cell"])


def test_a_session_below_stands_where_it_was_asked_for(tmp_path: Path) -> None:
    """Its calls count for those above it; of very many sessions only sums are shown."""

    def below(call: str) -> list[AnyEvent | tuple[AnyEvent, str]]:
        return [
            SubcallRequested(call=call, cell=1, model="sub", prompt="?", kind="rlm"),
            *((event, call) for event in (started(f"{RUN}/{call}"), QuestionAsked(ask=1, question="?"), *_turn(1))),
        ]

    tree = _tree(tmp_path / "a", [*_turn(1), *below("s1")])
    session = tree.below[0].below[0].below[0].below[0]
    assert (session.kind, session.name, session.status, session.sums.subcalls) == ("session", "s1", "broken-off", 1)
    assert [each.kind for each in session.below] == ["turn"]
    assert tree.sums.usage.calls == 2
    many = _tree(tmp_path / "b", [*_turn(1), *(event for n in range(9) for event in below(f"s{n}"))])
    assert many.sums.usage.calls == 10
    group = many.below[0].below[0].below[0].below[0]
    assert (group.kind, group.count, group.below) == ("rlm", 9, [])
    assert _tree(tmp_path / "c", [*_turn(1), *below("s1")], node="s1").sums.usage.calls == 1


@pytest.mark.parametrize("opened", [{"node": "s9"}, {"turn": 9}, {"cell": 9}])
def test_a_part_that_is_not_there_is_an_error(tmp_path: Path, opened: dict[str, object]) -> None:
    """In words."""
    with pytest.raises(RecordingError, match="has no"):
        _tree(tmp_path, [*_turn(1)], **opened)


def test_numbers_that_cannot_be_are_damage(tmp_path: Path) -> None:
    """They could be neither added nor shown."""
    request = SubcallRequested(call="s1", cell=1, model="m", prompt="?")
    failed = SubcallFailed(call="s1", code="x", error="E", message="", seconds=1e300)
    with pytest.raises(RecordingDamaged, match="can't be"):
        _tree(tmp_path, [*_turn(1), request, failed])
