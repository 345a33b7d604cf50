"""What can be gone on from, and what is said where it can't."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel.assembly.asked import Asked
from rlm_kernel.assembly.kept import Kept
from rlm_kernel.assembly.rerun.resume import GoOn, fork_run, resume_run
from rlm_kernel.assembly.sinks import Listeners
from rlm_kernel.config import Settings
from rlm_kernel.errors import ConfigError, ContextMissing, RecordingError, RlmKernelError
from rlm_kernel.events import (
    AnswerGiven,
    BudgetSpent,
    ContextStored,
    ModelReplied,
    ModelRequested,
    QuestionAsked,
    QuestionFailed,
    RunFinished,
    RunOrigin,
    RunStarted,
    TurnStarted,
    WentLive,
)
from rlm_kernel.recording import Recording, RecordingLog, new_run_id
from rlm_kernel.recording.bundle.pack import Packing, write_bundle
from rlm_kernel.types import Usage

CONTEXT = ContextStored(digest="a" * 64, kind="str", size=5, source="gone.txt")
ASKED = QuestionAsked(ask=1, question="?")
TURN = TurnStarted(turn=1)
ANSWER = AnswerGiven(answer="a", source="FINAL")
LIVE = WentLive(turn=1, cells=0, answers=0, seconds=0)
REQUEST = ModelRequested(call="m1", model="vllm:m", history=0, messages=[])


def reply(usage: Usage) -> ModelReplied:
    """Return the root model's reply."""
    return ModelReplied(call="m1", text="", finish_reason="stop", usage=usage, seconds=1, attempts=1, served_by="m")


def finished(**changes: Any) -> RunFinished:
    """Return a run's last event."""
    given: dict[str, Any] = {"status": "answered", "answer": "a", "seconds": 1, "turns": 1, "usage": {}}
    return RunFinished(**(given | changes))


def recorded(state: Path, *events: Any, **started: Any) -> Path:
    """Record a run, which is at its end or was cut off, and return its recording."""
    run = new_run_id()
    names = {"question": "?", "model": "vllm:m", "sub_model": "vllm:s", "package_version": "", "python_version": ""}
    with RecordingLog(state, run) as log:
        log.emit(RunStarted(run=run, **(names | started)))
        for event in events:
            log.emit(event)
    return log.path


def name_of(path: Path) -> tuple[str, str]:
    """Return a recording's head and its run."""
    with Recording(path) as recording:
        return recording.head, recording.started.run


def going_on(state: Path, source: str, head: str, run: str, *more: Any) -> Path:
    """Record a run that resumes another one, with a context of this source."""
    origin = RunOrigin(how="resume", run=run, records=4, head=head)
    context = ContextStored(digest="a" * 64, kind="str", size=5, source=source)
    return recorded(state, context, ASKED, TURN, *more, origin=origin)


async def refused(state: Path, path: Path, settings: Settings | None = None, **wanted: Any) -> str:
    """Return what is said by a resume that can't be."""
    kept = Kept(settings or Settings(state_dir=state))
    with pytest.raises(RlmKernelError) as error:
        await resume_run(kept, Listeners(), GoOn(run=str(path), **wanted))
    return f"{type(error.value).__name__}: {error.value}"


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ((CONTEXT, ASKED, TURN, ANSWER, finished()), "NotResumable: .* has its answer: .*runs show .*fork .* --at 1"),
        (
            (CONTEXT, ASKED, TURN, finished(status="failed", answer=None, error="ModelUnavailable")),
            r"NotResumable: .* it ended \(ModelUnavailable\): try its last step again with `rlm-kernel fork .* --at 1`",
        ),
        ((CONTEXT, ASKED, TURN, ANSWER), "NotResumable: no question .* is open, its 1 have ended: .* --question"),
        (
            (CONTEXT, ASKED, TURN, QuestionFailed(ask=1, error="E", message="m")),
            "NotResumable: no question .* is open",
        ),
        ((CONTEXT,), "NotResumable: .* before it was asked anything: ask it anew"),
        ((), "NotResumable: .* before it was asked anything"),
        ((ASKED,), "ConfigError: the run ended before its context was stored"),
        ((CONTEXT, ASKED, TURN), "ContextMissing: .* gone.txt, 5 bytes, SHA-256 a{64}.*--context PATH"),
    ],
)
async def test_what_can_not_be_resumed_names_the_way_out(tmp_path: Path, events: tuple[Any, ...], words: str) -> None:
    """Each kind of run that is not one that was cut off in a question."""
    said = await refused(tmp_path, recorded(tmp_path, *events))
    assert re.match(words, said), said
    assert len(list((tmp_path / "runs").iterdir())) == 1


async def test_a_bundle_is_resumed_as_its_run_is(tmp_path: Path) -> None:
    """It is unpacked for that, and nothing of it stays."""
    path = recorded(tmp_path, CONTEXT, ASKED, TURN)
    bundle = tmp_path / "run.tar.zst"
    with bundle.open("wb") as file:
        write_bundle(path, file, Packing(store=tmp_path, contexts=False))
    path.unlink()
    assert "ContextMissing" in await refused(tmp_path, bundle)
    assert [*(tmp_path / "runs").iterdir()] == [path.parent]


async def test_a_run_that_goes_on_is_not_resumed(tmp_path: Path) -> None:
    """Its process holds a lock, in whichever process that is asked."""
    path = recorded(tmp_path, CONTEXT, ASKED, TURN)
    held = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "still goes on" in await refused(tmp_path, path)
    finally:
        os.close(held)
    assert "ContextMissing" in await refused(tmp_path, path)


async def test_a_resume_that_did_not_come_far_is_passed_over(tmp_path: Path) -> None:
    """What is resumed is the run that holds more, unless that one is gone, is another one, or was gone on from."""

    resumed = partial(going_on, tmp_path)
    first = recorded(tmp_path, CONTEXT, ASKED, TURN)
    of_first = name_of(first)
    second = resumed("second.txt", *of_first)
    third = resumed("third.txt", *name_of(second))
    failed = resumed("failed.txt", *of_first, finished(status="failed", answer=None, error="StateDiverged"))
    for path in (first, second, third, failed):
        assert "gone.txt" in await refused(tmp_path, path)
    for path, source in (
        (resumed("live.txt", *of_first, LIVE), "live.txt"),
        (resumed("other.txt", "0" * 64, of_first[1]), "other.txt"),
        (resumed("none.txt", of_first[0], "../../etc"), "none.txt"),
        (resumed("gone_too.txt", of_first[0], "20261121T073000Z-1f0c9a3e"), "gone_too.txt"),
    ):
        assert source in await refused(tmp_path, path)
    assert "NotResumable" in await refused(tmp_path, resumed("x", *of_first, ANSWER, finished()))


async def test_a_run_that_was_resumed_is_gone_on_with_where_that_ends(tmp_path: Path) -> None:
    """By its first name too: what the later run paid is not paid again. One that failed with nothing is passed over."""
    first = recorded(tmp_path, CONTEXT, ASKED, TURN)
    down = finished(status="failed", answer=None, error="ModelUnavailable")
    tried = going_on(tmp_path, "tried.txt", *name_of(first), LIVE, REQUEST, down)
    for path in (first, tried):
        assert "gone.txt" in await refused(tmp_path, path)
    live = going_on(tmp_path, "live.txt", *name_of(first), LIVE)
    assert "live.txt" in await refused(tmp_path, first)
    failed = going_on(tmp_path, "failed.txt", *name_of(live), LIVE, REQUEST, reply(Usage(calls=1)), down)
    said = await refused(tmp_path, first)
    names = [path.parent.name for path in (first, failed)]
    assert said.startswith(f"NotResumable: what {names[0]} holds was gone on with: the run {names[1]} was not")
    held = os.open(live, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        shutil.rmtree(failed.parent)
        assert f"the run {live.parent.name} still goes on" in await refused(tmp_path, first)
    finally:
        os.close(held)


def test_a_recording_knows_that_it_has_grown(tmp_path: Path) -> None:
    """So a run that ended just after it was read is not taken for one that was cut off; a torn line is no growth."""
    path = recorded(tmp_path, CONTEXT, ASKED, TURN)
    with path.open("ab") as file, Recording(path) as recording:
        grown = [recording.has_grown]
        file.write(b'{"v":2')
        file.flush()
        grown.append(recording.has_grown)
        assert grown == [False, True]
        with Recording(path) as torn:
            assert not torn.has_grown


async def test_a_torn_last_line_is_passed_over_wherever_it_is_cut(tmp_path: Path) -> None:
    """At every byte of the last line the run is the same that was cut off before it."""
    path = recorded(tmp_path, CONTEXT, ASKED, TURN, REQUEST)
    whole = path.read_bytes()
    last = len(whole.splitlines(keepends=True)[-1])
    for cut in range(1, last + 1):
        path.write_bytes(whole[:-cut])
        assert (await refused(tmp_path, path)).startswith("ContextMissing")


async def test_host_tools_have_to_be_there(tmp_path: Path) -> None:
    """A run that was recorded with some names those that are not."""
    tools = [{"name": "search", "doc": "", "parameters": [], "returns": None}, {"name": 7}]
    said = await refused(tmp_path, recorded(tmp_path, CONTEXT, ASKED, TURN, tools=tools))
    assert said.startswith("ConfigError")
    assert "search, 7" in said
    assert "RLM(tools=[...]).resume(run)" in said


@pytest.mark.parametrize("name", ["model", "sub_model"])
@pytest.mark.parametrize("recorded_name", ["scripted:/etc/passwd", "", "x" * 6_000])
async def test_a_model_that_can_not_be_taken_over_has_to_be_chosen(
    tmp_path: Path, name: str, recorded_name: str
) -> None:
    """No default takes its place, as that would ask and pay somebody else."""
    path = recorded(tmp_path, CONTEXT, ASKED, TURN, **{name: recorded_name})
    assert f"choose one with --{name.replace('_', '-')}" in await refused(tmp_path, path)
    assert "ContextMissing" in await refused(tmp_path, path, given={name})


@pytest.mark.parametrize(
    ("setting", "value", "more"),
    [
        ("max_cost", 0.5, 0.75),
        ("max_total_tokens", 12, 20),
        ("max_input_tokens", 10, 20),
        ("max_output_tokens", 2, 20),
    ],
)
async def test_a_limit_that_is_used_up_is_said(tmp_path: Path, setting: str, value: float, more: float) -> None:
    """With the option that allows more; with more the run is gone on with."""
    used = Usage(calls=1, input_tokens=10, output_tokens=2, cost_usd=0.5)
    path = recorded(tmp_path, CONTEXT, ASKED, TURN, REQUEST, reply(used), settings={setting: value})
    said = await refused(tmp_path, path)
    option = f"--{setting.replace('_', '-')}"
    assert said.startswith("BudgetExceeded: The recorded run has used up its limit")
    assert f"Allow more with {option}" in said
    own = Settings(state_dir=tmp_path, **{setting: more})  # type: ignore[arg-type]
    assert "ContextMissing" in await refused(tmp_path, path, own, given={setting})


async def test_a_limit_that_was_hit_is_said(tmp_path: Path) -> None:
    """Where the recording tells of it, as of sub-calls; a name that is no limit's is passed over."""
    spent = BudgetSpent(limit="max_subcalls", used=3, allowed=3, message="")
    odd = BudgetSpent(limit="state_dir", used=3, allowed=3, message="")
    path = recorded(tmp_path, CONTEXT, odd, ASKED, TURN, spent, settings={"max_subcalls": 3})
    assert "limit of --max-subcalls 3" in await refused(tmp_path, path)
    own = Settings(state_dir=tmp_path, max_subcalls=4)
    assert "ContextMissing" in await refused(tmp_path, path, own, given={"max_subcalls"})


async def fork(state: Path, path: Path, at: int | None, question: str | None = None) -> None:
    """Fork a run."""
    asked = None if question is None else Asked.of(question)
    await fork_run(Kept(Settings(state_dir=state)), Listeners(), GoOn(run=path.parent.name), at, asked)


async def test_a_turn_that_there_is_not_is_said(tmp_path: Path) -> None:
    """With those that there are."""
    path = recorded(tmp_path, CONTEXT, ASKED, TURN, TurnStarted(turn=2), ANSWER, finished())
    for at in (3, -1, 10**9):
        with pytest.raises(ConfigError, match=f"no turn {at}: it has the turns 1 to 2, and 0 is its beginning"):
            await fork(tmp_path, path, at)
    for last in (2, None):
        with pytest.raises(ConfigError, match="given its answer in turn 2, its last"):
            await fork(tmp_path, path, last)
        with pytest.raises(ContextMissing):
            await fork(tmp_path, path, last, "Else?")
    for earlier in (0, 1):
        with pytest.raises(ContextMissing):
            await fork(tmp_path, path, earlier)
    with pytest.raises(ConfigError, match="it has no turn, and 0"):
        await fork(tmp_path, recorded(tmp_path, CONTEXT), 1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line[:-2],
        lambda line: line.replace(b'"v":2', b'"v":9'),
        lambda line: b"[" * 100_000,
        lambda line: b"",
    ],
)
async def test_a_damaged_recording_is_not_gone_on_from(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    """In the middle damage is an error, whatever follows; nothing is made."""
    path = recorded(tmp_path, CONTEXT, ASKED, TURN, REQUEST)
    lines = path.read_bytes().splitlines()
    lines[2] = damage(lines[2])
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(RecordingError, match="line 3"):
        await resume_run(Kept(Settings(state_dir=tmp_path)), Listeners(), GoOn(run=str(path)))
    assert len(list((tmp_path / "runs").iterdir())) == 1
