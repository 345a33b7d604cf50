"""What a recorded run used."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from rlm_kernel.assembly.rerun.played import Playing
from rlm_kernel.budget import Budget, Limits
from rlm_kernel.errors import BudgetExceeded
from rlm_kernel.events import (
    AnswerGiven,
    KernelReady,
    ModelFailed,
    ModelReplied,
    ModelRequested,
    ModelRetried,
    QuestionAsked,
    RunOrigin,
    RunStarted,
    SubcallFailed,
    SubcallReplied,
    SubcallRequested,
    TurnStarted,
    WentLive,
)
from rlm_kernel.recording import Recording, RecordingLog, Used, new_run_id, used_by
from rlm_kernel.types import Origin, Usage

ONE = Usage(calls=1, input_tokens=10, output_tokens=2, cost_usd=0.5)


def started(origin: RunOrigin | None = None) -> RunStarted:
    """Return a run's first event."""
    return RunStarted(
        run="", question="?", model="m", sub_model="s", package_version="", python_version="", origin=origin
    )


def use(folder: Path, *events: Any) -> Used:
    """Return what a recording of `events`, each with its node, says was used."""
    with RecordingLog(folder, new_run_id()) as log:
        for event, node in events:
            log.emit(event, node)
    with Recording(log.path) as recording:
        return used_by(recording)


def replied(call: str, **more: Any) -> dict[str, Any]:
    """Return the fields of a reply."""
    given = {"call": call, "text": "", "finish_reason": "stop", "usage": ONE, "seconds": 1.0, "attempts": 1}
    return given | {"served_by": "m"} | more


def sub(call: str, model: str = "s") -> SubcallRequested:
    """Return the event of a sub-call."""
    return SubcallRequested(call=call, cell=1, model=model, prompt="p")


def test_all_that_was_paid_for_counts(tmp_path: Path) -> None:
    """Root calls, sub-calls, failures, repeated attempts and those of sessions below, each for its model."""
    used = use(
        tmp_path,
        (started(), ""),
        (ModelRequested(call="m1", model="m", history=0, messages=[]), ""),
        (ModelRetried(call="m1", attempt=1, error="E", message="", wait=1, usage=ONE), ""),
        (ModelReplied(**replied("m1")), ""),
        (ModelRequested(call="m2", model="m", history=0, messages=[]), ""),
        (ModelFailed(call="m2", error="E", message="", seconds=1, usage=ONE), ""),
        (sub("s1"), ""),
        (ModelRequested(call="m1", model="s", history=0, messages=[]), "s1"),
        (ModelReplied(**replied("m1")), "s1"),
        (sub("s1"), "s1"),
        (SubcallFailed(call="s1", code="c", error="E", message="", seconds=1, usage=ONE), "s1"),
        (sub("s2"), ""),
        (SubcallFailed(call="s2", code="c", error="E", message="", seconds=1), ""),
        (sub("s3"), ""),
    )
    assert {model: usage.calls for model, usage in used.usage.items()} == {"m": 3, "s": 2}
    assert used.total.cost_usd == 2.5
    assert used.subcalls == 2


def test_answers_from_the_recording_before_are_its_use(tmp_path: Path) -> None:
    """A resumed run counts what was used before it once; a stored answer is a sub-call that used nothing."""
    origin = RunOrigin(how="resume", run="r", records=1, head="", usage={"s": ONE}, subcalls=1, seconds=9.0)
    events = (
        (sub("s1"), ""),
        (SubcallReplied(**replied("s1", usage=Usage(), cached=Origin(how="recorded", run="r", at=""))), ""),
        (sub("s2"), ""),
        (SubcallReplied(**replied("s2", usage=Usage(), cached=Origin(how="stored", run="r", at=""))), ""),
        (sub("s3"), ""),
        (SubcallReplied(**replied("s3")), ""),
    )
    used = use(tmp_path, (started(origin), ""), *events)
    assert (used.subcalls, used.total.calls) == (3, 2)
    assert used.seconds >= 9
    fork = RunOrigin(how="fork", run="r", records=1, head="", usage={"s": ONE}, subcalls=1, seconds=9.0)
    used = use(tmp_path, (started(fork), ""), *events)
    assert (used.subcalls, used.total.calls) == (2, 1)


def test_time_between_questions_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The opening counts, and each question up to its end, the open one up to the last record."""
    moments = iter([100.0, 103.0, 1_000.0, 1_001.0, 1_002.0, 5_000.0, 5_000.5])
    monkeypatch.setattr("rlm_kernel.recording.log.time.time", lambda: next(moments))
    ready = KernelReady(generation=1, context_type="str", context_length=1)
    events = [
        started(),
        ready,
        QuestionAsked(ask=1, question="?"),
        TurnStarted(turn=1),
        AnswerGiven(answer="a", source="FINAL"),
        QuestionAsked(ask=2, question="?"),
        TurnStarted(turn=2),
    ]
    assert use(tmp_path, *((event, "") for event in events)).seconds == pytest.approx(3 + 2 + 0.5)


@pytest.mark.parametrize(("how", "seconds"), [("resume", 15 - 5 + 9), ("fork", 15)])
def test_the_time_of_running_again_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Any, seconds: float
) -> None:
    """A resumed run's own time is that from its first live call on; a fork begins anew."""
    moments = iter([100.0, 101.0, 105.0, 108.0])
    monkeypatch.setattr("rlm_kernel.recording.log.time.time", lambda: next(moments))
    events = [
        started(RunOrigin(how=how, run="r", records=1, head="", seconds=9.0)),
        QuestionAsked(ask=1, question="?"),
        WentLive(turn=1, cells=1, answers=1, seconds=5.0),
        TurnStarted(turn=1),
    ]
    assert use(tmp_path, *((event, "") for event in events)).seconds == pytest.approx(seconds)


@pytest.mark.parametrize(("again", "counts"), [(30.0, 40.0), (45.0, 45.0)])
def test_the_time_of_running_again_is_part_of_what_was_used(again: float, counts: float) -> None:
    """It counts beyond what the recorded run took alone."""
    now = [0.0]
    budget = Budget(Limits(seconds=100.0), clock=lambda: now[0])
    playing = Playing(
        tape=cast(Any, None), is_live=True, cell_timeout=1.0, used=Used(subcalls=1, seconds=40.0), budget=budget
    )
    now[0] = again
    playing.paid()
    playing.paid()
    used = budget.used()
    assert (used.seconds, used.subcalls) == (counts, 1)


async def test_what_was_used_before_counts_in_the_budget() -> None:
    """Sub-calls, tokens, cost and time are those of the whole; a limit that is passed by that is spent."""
    budget = Budget(Limits(subcalls=3, cost=5.0, total_tokens=1_000, seconds=100.0))
    two = {"m": Usage(input_tokens=4, output_tokens=5, cost_usd=0.5), "s": Usage(input_tokens=6, cost_usd=1.5)}
    budget.charge(two, subcalls=2, seconds=40.0)
    used = budget.used()
    assert (used.subcalls, used.input_tokens, used.output_tokens, used.total_tokens, used.cost_usd) == (2, 10, 5, 15, 2)
    assert used.seconds is not None
    assert 40 <= used.seconds < 50
    budget.take_subcall()
    with pytest.raises(BudgetExceeded, match="3 sub-calls"):
        budget.take_subcall()


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf"), -float("inf"), 1e308, 10**400])
def test_amounts_that_can_not_be_are_bounded(amount: Any) -> None:
    """Whatever a recording tells of its use, no limit grows by it and nothing breaks."""
    budget = Budget(Limits(cost=1.0))
    cost = amount if isinstance(amount, float) else 0.0
    usage = Usage(input_tokens=amount, output_tokens=amount, cost_usd=cost)
    budget.charge({"m": usage}, subcalls=amount, seconds=amount)
    used = budget.used()
    for each in (used.subcalls, used.input_tokens, used.output_tokens, used.cost_usd, used.seconds):
        assert each is not None
        assert 0 <= each < 10**17
