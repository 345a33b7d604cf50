"""The tape of a recorded run: what its models and tools gave, where it is due."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel.bridge import KnownFailure
from rlm_kernel.errors import BudgetExceeded, ModelError, RateLimited, RecordingDamaged, RecordingEnded, RecordingError
from rlm_kernel.events import (
    AnswerGiven,
    AnyEvent,
    BudgetSpent,
    CellFinished,
    CellInterrupted,
    CellStarted,
    ModelFailed,
    ModelReplied,
    ModelRequested,
    QuestionAsked,
    QuestionFailed,
    SubcallFailed,
    SubcallRefused,
    SubcallReplied,
    SubcallRequested,
    TurnStarted,
)
from rlm_kernel.recording import EVENTS_FILE, Recording
from rlm_kernel.recording.tape import NodeTape, Tape, refusal_key
from rlm_kernel.session import CallKey, digest
from rlm_kernel.types import Usage
from tests.support.recorded import box, run_id, started, stored, write_run

V1 = Path(__file__).parents[2] / "recordings" / "v1"
HEAD = [started(run_id(1)), stored("0" * 64)]


def requested(call: str) -> ModelRequested:
    """Return a request to the root model."""
    return ModelRequested(call=call, model="fake:root", history=0, messages=[])


def replied(call: str, text: str = "said") -> ModelReplied:
    """Return the root model's reply."""
    usage = Usage(calls=1, input_tokens=70, output_tokens=7)
    return ModelReplied(call=call, text=text, finish_reason="stop", usage=usage, seconds=1, attempts=2, served_by="x")


def asks(call: str, cell: int, prompt: str, kind: Any = "llm") -> SubcallRequested:
    """Return a sub-call."""
    return SubcallRequested(call=call, cell=cell, model="fake:sub", prompt=prompt, kind=kind)


def answers(call: str, text: str) -> SubcallReplied:
    """Return a sub-call's answer."""
    return SubcallReplied(
        call=call, text=text, finish_reason="stop", usage=Usage(), seconds=1, attempts=1, served_by="x", note="cut"
    )


def fails(call: str, code: str, error: str) -> SubcallFailed:
    """Return a sub-call's failure."""
    return SubcallFailed(call=call, code=code, error=error, message="host only", seconds=1, told="told")


def ended(cell: int, status: Any = "ok", seconds: float = 1.0) -> CellFinished:
    """Return a cell's end."""
    return CellFinished(cell=cell, status=status, seconds=seconds)


def cell(number: int) -> CellStarted:
    """Return a cell's beginning."""
    return CellStarted(cell=number, turn=number, code="pass")


def turn(number: int, *events: AnyEvent) -> list[AnyEvent]:
    """Return a turn whose model replied and whose cell did this."""
    call = f"m{number}"
    return [TurnStarted(turn=number), requested(call), replied(call), cell(number), *events, ended(number)]


def node_of(recording: Recording, path: str = "", until: int | None = None) -> NodeTape:
    """Return a session's tape."""
    node = Tape(recording, until).node(path)
    assert node is not None
    return node


def write(tmp_path: Path, *events: AnyEvent | tuple[AnyEvent, str]) -> Recording:
    """Write a recording of one question."""
    asked: list[Any] = [*HEAD, QuestionAsked(ask=1, question="?"), *events]
    return Recording(write_run(tmp_path, run_id(1), asked) / EVENTS_FILE)


@pytest.mark.parametrize("name", ["session", "children"])
def test_a_recording_of_the_first_version_is_a_tape(name: str) -> None:
    """All replies and answers of an old recording can be given again."""
    with Recording(V1 / name / "events.jsonl") as recording:
        for path, node in recording.nodes.items():
            tape = node_of(recording, path)
            for question in tape.questions:
                assert question.over
                assert [tape.reply(each).attempts for each in question.asked] == [0] * len(question.asked)
            for number in node.cells:
                for call in tape.cell(number).calls:
                    assert call.node is None or call.node in recording.nodes
                    if call.answered:
                        with suppress(KnownFailure):
                            assert tape.answer(call).usage == Usage()


def test_replies_say_where_they_are_from_and_what_was_counted(tmp_path: Path) -> None:
    """A reply costs nothing again, names its run, and carries the provider's count for the conversation's length."""
    with write(tmp_path, *turn(1)) as recording:
        tape = node_of(recording)
        reply = tape.reply(tape.questions[0].asked[0])
    assert (reply.text, reply.attempts, reply.usage) == ("said", 0, Usage())
    assert reply.counted is not None
    assert reply.counted.total_tokens == 77
    assert reply.cached is not None
    assert (reply.cached.how, reply.cached.run) == ("recorded", run_id(1))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("RateLimited", RateLimited),
        ("BudgetExceeded", BudgetExceeded),
        ("RecordingEnded", RecordingEnded),
        ("RecordingDamaged", ModelError),
        ("SystemExit", ModelError),
        ("NodeFailed", ModelError),
        ("Any", ModelError),
    ],
)
def test_failures_come_again_by_name(tmp_path: Path, name: str, kind: type[Exception]) -> None:
    """A recorded error is one of ours once more; a name of anything else makes no such thing."""
    failed = ModelFailed(call="m1", error=name, message="why", seconds=1)
    with write(tmp_path, TurnStarted(turn=1), requested("m1"), failed) as recording:
        tape = node_of(recording)
        with pytest.raises(Exception, match="why") as raised:
            tape.reply(tape.questions[0].asked[0])
    assert type(raised.value) is kind


def test_calls_have_their_keys_answers_and_ends(tmp_path: Path) -> None:
    """A cell's calls are there in the order of asking, with what each was told; what ended with its cell has none."""
    refused = SubcallRefused(
        call="s5", cell=1, reason="the run's budget is spent, no", asked=None, prompt="e", prompt_length=1
    )
    events: list[Any] = [asks("s1", 1, "a"), asks("s2", 1, "b"), asks("s3", 1, "c"), asks("s4", 1, "d")]
    ends: list[Any] = [
        answers("s2", "B"),
        answers("s1", "A"),
        fails("s3", "no code", "Odd"),
        fails("s4", "failed", "CancelledError"),
    ]
    with write(tmp_path, *turn(1, *events, *ends, refused)) as recording:
        tape = node_of(recording)
        taped = tape.cell(1)
        assert [call.key for call in taped.calls] == [CallKey("llm", None, digest(text)) for text in "abcd"]
        assert [call.answered for call in taped.calls] == [True, True, True, False]
        assert tape.answer(taped.calls[0]).note == "cut"
        with pytest.raises(KnownFailure, match="host only") as raised:
            tape.answer(taped.calls[2])
    assert (raised.value.code, raised.value.told, raised.value.error) == ("failed", "told", "Odd")
    assert taped.refused[refusal_key("llm", None, "e", 1)].code == "budget_exceeded"
    assert (taped.calls[0].call.ended or 0) > (taped.calls[1].call.ended or 0)


def test_a_cell_that_was_made_to_end_says_when_and_why(tmp_path: Path) -> None:
    """The first step that was taken against a cell counts."""
    steps: list[Any] = [CellInterrupted(cell=1, step="sigint", reason="stopped", seconds=2.5)]
    steps += [CellInterrupted(cell=1, step="cancel", reason="stopped", seconds=3.4)]
    with write(tmp_path, *turn(1, *steps)) as recording:
        assert node_of(recording).cell(1).interrupted == (2.5, "stopped")


def test_a_tape_ends_with_a_turn(tmp_path: Path) -> None:
    """Up to a turn, all of it is on the tape and nothing of what came later."""
    spent = BudgetSpent(limit="max_subcalls", used=1, allowed=1, message="spent")
    with write(tmp_path, *turn(1), *turn(2), spent, AnswerGiven(answer="x", source="FINAL")) as recording:
        whole, cut, none = node_of(recording), node_of(recording, until=1), node_of(recording, until=0)
        assert [len(each.questions[0].asked) for each in (whole, cut, none)] == [2, 1, 0]
        assert [each.place(2) is not None for each in (whole, cut, none)] == [True, False, False]
        assert [each.questions[0].over for each in (whole, cut, none)] == [True, False, False]
        assert [len(each.spent) for each in (whole, cut, none)] == [1, 0, 0]
        with pytest.raises(RecordingError, match="2 turns"):
            Tape(recording, 3)


def test_a_plain_call_is_no_tape(tmp_path: Path) -> None:
    """A run without a session has nothing to run again, and says so."""
    folder = write_run(tmp_path, run_id(1), [started(run_id(1)), QuestionAsked(ask=1, question="?")])
    with Recording(folder / EVENTS_FILE) as recording, pytest.raises(RecordingError, match="plain call"):
        Tape(recording)


def test_what_no_run_writes_is_damage_or_nothing(tmp_path: Path) -> None:
    """Ends without a beginning, names given twice, sessions that there are not: none is a reply, none is followed."""
    events: list[Any] = [
        answers("s1", "early"),
        asks("s1", 1, "a"),
        asks("s1", 1, "b", "rlm"),
        answers("s1", "B"),
        replied("s2"),
    ]
    failed = QuestionFailed(ask=1, error="CancelledError", message="")
    with write(tmp_path, box(seed=-1), *turn(1, *events), failed, (cell(7), "s9/s9")) as recording:
        tape = node_of(recording)
        taped = tape.cell(1)
        assert [(call.answered, call.node) for call in taped.calls] == [(False, None), (True, None)]
        assert tape.answer(taped.calls[1]).text == "B"
        assert tape.seed is None
        assert tape.questions[0].failed == "CancelledError"
        assert Tape(recording).node("s9/s9") is None
        taped.calls[1].call.ended = 0
        with pytest.raises(RecordingDamaged, match="RunStarted"):
            tape.answer(taped.calls[1])
