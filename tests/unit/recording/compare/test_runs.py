"""Two recordings of one run, compared."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel import events as ev
from rlm_kernel.errors import RecordingDamaged
from rlm_kernel.recording import EVENTS_FILE, REDACTED, Recording, RecordingLog, Redaction, new_run_id
from rlm_kernel.recording.compare.ran import MOST_OUTPUT
from rlm_kernel.recording.compare.runs import Comparison, compare_runs
from rlm_kernel.types import Usage

RECORDINGS = Path(__file__).parents[3] / "recordings"


def box(uid: int, seed: int | None = 1) -> ev.SandboxStarted:
    """A container."""
    return ev.SandboxStarted(
        runtime="docker", oci_runtime="runc", engine="e", container=f"{uid}" * 12, image="i", image_id="d",
        carrier="socket", uid=uid, seen={}, seed=seed,
    )  # fmt: skip


def cell(
    number: int, text: str = "", code: str = "x", inside: Iterable[ev.AnyEvent] = (), **ended: Any
) -> list[ev.AnyEvent]:
    """A turn with a cell that prints `text`."""
    return [
        ev.TurnStarted(turn=number),
        ev.CellStarted(cell=number, turn=number, code=code),
        *inside,
        *(
            [ev.CellOutput(cell=number, output={"output_type": "stream", "name": "stdout", "text": text})]
            if text
            else []
        ),
        ev.CellFinished(**{"cell": number, "status": "ok", "seconds": 0.5, **ended}),
    ]


def asked(call: str, prompt: str, cell: int = 1, kind: Any = "llm") -> ev.SubcallRequested:
    """A sub-call."""
    return ev.SubcallRequested(call=call, cell=cell, model="m", prompt=prompt, kind=kind)


def replied(call: str, text: str = "ok") -> ev.SubcallReplied:
    """Its answer."""
    return ev.SubcallReplied(
        call=call, text=text, finish_reason="stop", usage=Usage(), seconds=0.1, attempts=1, served_by="m"
    )


def compare(
    tmp_path: Path,
    then: Iterable[Any],
    now: Iterable[Any],
    until_turn: int | None = None,
    redaction: Redaction | None = None,
) -> Comparison:
    """Record both runs, each of its events with a node if it has one, and compare them; `redaction` is the first's."""
    paths: list[Path] = []
    for uid, events in ((40001, then), (40002, now)):
        run = new_run_id()
        with RecordingLog(tmp_path, run, redaction=None if paths else redaction) as log:
            started = ev.RunStarted(
                run=run, question="q", model="m", sub_model="m", package_version="1", python_version="3"
            )
            for event in (started, box(uid), ev.QuestionAsked(ask=1, question="q"), *events):
                log.emit(*(event if isinstance(event, tuple) else (event, "")))
        paths.append(log.folder / EVENTS_FILE)
    with Recording(paths[0]) as one, Recording(paths[1]) as other:
        return compare_runs(one, other, until_turn=until_turn)


def answer(text: str) -> ev.AnswerGiven:
    """An answer."""
    return ev.AnswerGiven(answer=text, source="FINAL")


def outcomes(found: Comparison) -> list[str]:
    """What each cell came to."""
    return [cell.outcome for cell in found.cells]


@pytest.mark.parametrize("path", sorted(RECORDINGS.glob("*/*/events.jsonl")), ids=str)
def test_a_recording_is_itself(path: Path) -> None:
    """Every cell and answer of it is identical, the sessions below too."""
    with Recording(path) as one, Recording(path) as other:
        found = compare_runs(one, other)
        assert set(outcomes(found)) == {"identical"} == {each.outcome for each in found.answers}
        assert {cell.node for cell in found.cells} == {path for path, node in one.nodes.items() if node.cells}
        assert not found.differs


def test_cells_of_each_kind(tmp_path: Path) -> None:
    """What each came to, by what it read, what it was called and what it printed."""
    then = [*cell(1, "a"), *cell(2, "40001 at 0x7f00"), *cell(3, "1", "n = uuid4()"), *cell(4, "2", "n"), *cell(5, "1")]
    now = [*cell(1, "a"), *cell(2, "40002 at 0x7f01"), *cell(3, "2", "n = uuid4()"), *cell(4, "3", "n"), *cell(5, "2")]
    found = compare(tmp_path, [*then, answer("1")], [*now, answer("1")])
    assert outcomes(found) == ["identical", "normalised", "varies", "varies", "different"]
    assert found.cells[1].rules == ["addresses", "session ids"]
    assert found.cells[3].reads == ["cell 3: uuid4"]
    assert found.counts == {"identical": 1, "normalised": 1, "varies": 2, "different": 1}
    assert found.differs


def test_cells_that_are_missing_or_more(tmp_path: Path) -> None:
    """A cell on one side alone differs; one that was recorded without its end has nothing to compare."""
    assert outcomes(compare(tmp_path, [*cell(1), *cell(2)], cell(1))) == ["identical", "missing"]
    assert outcomes(compare(tmp_path, cell(1), [*cell(1), *cell(2)])) == ["identical", "more"]
    cut = [*cell(1), *cell(2)[:2]]
    found = compare(tmp_path, cut, cut)
    assert outcomes(found) == ["identical", "unfinished"]
    assert (found.differs, found.answers) == (False, [])


def test_answers(tmp_path: Path) -> None:
    """They are compared as texts are, a failure with a failure; one varies if its last cell does."""
    same = compare(tmp_path, [*cell(1), answer("at 0x7f00")], [*cell(1), answer("at 0x7f01")])
    assert [(each.outcome, each.rules) for each in same.answers] == [("normalised", ["addresses"])]
    other = compare(tmp_path, [*cell(1), answer("1")], [*cell(1), answer("2")])
    assert ([each.outcome for each in other.answers], other.differs) == (["different"], True)
    varies = compare(tmp_path, [*cell(1, "1", "uuid4()"), answer("1")], [*cell(1, "2", "uuid4()"), answer("2")])
    assert ([each.outcome for each in varies.answers], varies.differs) == (["varies"], False)
    failed = [*cell(1), ev.QuestionFailed(ask=1, error="NoAnswer", message="none")]
    assert [each.outcome for each in compare(tmp_path, failed, failed).answers] == ["identical"]
    assert compare(tmp_path, failed, [*cell(1), answer("1")]).differs


@pytest.mark.parametrize("error", ["CancelledError", "SandboxLost", "StateDiverged", "RecordingEnded"])
def test_a_question_that_was_broken_off(tmp_path: Path, error: str) -> None:
    """What ended it from outside does not come again: that the recording ends there too is no difference."""
    then = [*cell(1), ev.QuestionFailed(ask=1, error=error, message="then")]
    now = [*cell(1), ev.QuestionFailed(ask=1, error="RecordingEnded", message="now")]
    assert [each.outcome for each in compare(tmp_path, then, now).answers] == ["unfinished"]
    assert compare(tmp_path, then, [*cell(1), answer("1")]).differs
    failed = [*cell(1), ev.QuestionFailed(ask=1, error="ModelRejected", message="then")]
    assert compare(tmp_path, failed, now).differs


def test_calls_in_any_order(tmp_path: Path) -> None:
    """Calls are paired by content; one without its like makes its cell different, or varying where it reads chance."""
    then = cell(1, inside=[asked("s1", "a"), asked("s2", "b"), replied("s1"), replied("s2")])
    now = cell(1, inside=[asked("s1", "b"), asked("s2", "a"), replied("s2"), replied("s1")])
    assert outcomes(compare(tmp_path, then, now)) == ["identical"]
    now = cell(1, inside=[asked("s1", "a"), asked("s2", "c"), replied("s2"), replied("s1")])
    found = compare(tmp_path, then, now)
    assert (outcomes(found), found.cells[0].where) == (["different"], ["calls"])
    assert "-llm: b\n+llm: c" in found.cells[0].diff
    for code, outcome in (("uuid4()", "varies"), ("x", "different")):
        one, other = (cell(1, code=code, inside=[asked("s1", prompt), replied("s1")]) for prompt in "ab")
        assert outcomes(compare(tmp_path, one, other)) == [outcome]


def test_sessions_below_with_other_names(tmp_path: Path) -> None:
    """A session is compared with the one that answers the same call, whatever its name is by now."""

    def below(node: str, text: str) -> list[Any]:
        return [(event, node) for event in (ev.QuestionAsked(ask=1, question="q"), *cell(1, text), answer(text))]

    calls = [asked("s1", "a", kind="rlm"), asked("s2", "b", kind="rlm")]
    then = cell(1, inside=[*calls, *below("s1", "A"), *below("s2", "B"), replied("s1"), replied("s2")])
    calls = [asked("s1", "b", kind="rlm"), asked("s2", "a", kind="rlm")]
    now = cell(1, inside=[*calls, *below("s1", "B"), *below("s2", "X"), replied("s1"), replied("s2")])
    found = compare(tmp_path, then, now)
    assert [(cell.node, cell.outcome) for cell in found.cells] == [
        ("", "identical"),
        ("s1", "different"),
        ("s2", "identical"),
    ]


def test_the_end_of_a_cell_from_outside(tmp_path: Path) -> None:
    """How far such a cell came hangs on time, and so does what uses the names it bound."""
    code = "for n in range(9): print(n)"
    then = [*cell(1, "0\n1\n", code, status="timed_out"), *cell(2, "1", "n"), *cell(3, "1", "m")]
    now = [*cell(1, "0\n1\n2\n", code, status="timed_out"), *cell(2, "2", "n"), *cell(3, "2", "m")]
    assert outcomes(compare(tmp_path, then, now)) == ["varies", "varies", "different"]


def test_up_to_a_turn(tmp_path: Path) -> None:
    """Turns after it are left out on both sides, and so are answers."""
    then, now = [*cell(1, "a"), *cell(2, "b"), answer("1")], [*cell(1, "a"), *cell(2, "x"), *cell(3), answer("2")]
    found = compare(tmp_path, then, now, until_turn=1)
    assert (outcomes(found), found.answers, found.differs) == (["identical"], [], False)


def test_sessions_without_a_seed(tmp_path: Path) -> None:
    """Chance counts as read where one side was not pinned, or in another way."""
    one, other = ([*cell(1, text, "random.random()")] for text in ("1", "2"))
    assert outcomes(compare(tmp_path, one, other)) == ["different"]
    assert outcomes(compare(tmp_path, [box(1, None), *one], other)) == ["varies"]
    assert outcomes(compare(tmp_path, one, [box(1, 2), *other])) == ["varies"]


def test_more_output_than_a_cell_can_have(tmp_path: Path) -> None:
    """Such a recording is no one's; it is refused before it is in memory."""
    long = ev.CellOutput(cell=1, output={"output_type": "stream", "name": "stdout", "text": "x" * (MOST_OUTPUT // 3)})
    with pytest.raises(RecordingDamaged, match="cell 1 has more output than a cell can"):
        compare(tmp_path, cell(1, inside=[long] * 4), cell(1))


def test_calls_of_which_something_was_kept_out(tmp_path: Path) -> None:
    """They are paired by what is left of them; one that was never so differs, whatever its text is."""
    then = cell(1, inside=[asked("s1", "the key sk-1 of all"), replied("s1")])
    other = cell(1, inside=[asked("s1", "a key sk-1 of all"), replied("s1")])
    redaction = Redaction([lambda text: text.replace("sk-1", REDACTED)])
    found = compare(tmp_path, then, then, redaction=redaction)
    assert (outcomes(found), found.cells[0].rules) == (["normalised"], ["redacted"])
    assert found.redacted == ["line 6, SubcallRequested, cell 1, call s1: prompt"]
    assert outcomes(compare(tmp_path, then, other, redaction=redaction)) == ["different"]
    printed = cell(1, inside=[asked("s1", "the key [redacted] of all"), replied("s1")])
    assert outcomes(compare(tmp_path, printed, then)) == ["different"]
