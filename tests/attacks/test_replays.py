"""Recordings that nobody recorded, made to hold up, mislead or crash what runs them again."""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rlm_kernel import Settings
from rlm_kernel.assembly.rerun import delivery
from rlm_kernel.assembly.rerun.rerun import Plan, Rerun
from rlm_kernel.errors import RecordingDamaged, RecordingError, RlmKernelError
from rlm_kernel.events import (
    AnyEvent,
    CellFinished,
    CellInterrupted,
    CellStarted,
    ModelReplied,
    ModelRequested,
    QuestionAsked,
    SubcallReplied,
    SubcallRequested,
    TurnStarted,
)
from rlm_kernel.types import Usage
from tests.docker.test_rlm import settings as base_settings
from tests.support.recorded import box, run_id, started, stored, write_run
from tests.support.replays import run_again, told, without_models

__all__ = ["base_settings"]

CONTEXT = "context"
USAGE = Usage(calls=1)


@pytest.fixture
def settings(base_settings: Settings) -> Settings:
    """Settings whose models there are not."""
    return without_models(replace(base_settings, memory=256 * 2**20, cell_timeout=2, max_depth=1))


def head(**fields: Any) -> list[AnyEvent]:
    """Return how a recording begins, with a seed that there can't be."""
    beginning = msgspec.structs.replace(started(run_id(1)), **fields)
    return [
        beginning,
        stored(hashlib.sha256(CONTEXT.encode()).hexdigest()),
        box(seed=2**70 % 2**63),
        QuestionAsked(ask=1, question="?"),
    ]


def turn(number: int, code: str, *events: AnyEvent | tuple[AnyEvent, str], seconds: float = 0.1) -> list[Any]:
    """Return a turn with one cell, which is said to have ended well."""
    reply = ModelReplied(
        call=f"m{number}",
        text=f"```repl\n{code}\n```",
        finish_reason="stop",
        usage=USAGE,
        seconds=0,
        attempts=1,
        served_by="x",
    )
    return [
        TurnStarted(turn=number),
        ModelRequested(call=f"m{number}", model="fake:root", history=0, messages=[]),
        reply,
        CellStarted(cell=number, turn=number, code=code),
        *events,
        CellFinished(cell=number, status="ok", seconds=seconds),
    ]


def asks(call: str, cell: int, prompt: str, kind: Any = "llm") -> SubcallRequested:
    """Return a sub-call."""
    return SubcallRequested(call=call, cell=cell, model="fake:root", prompt=prompt, kind=kind)


def answers(call: str, text: str) -> SubcallReplied:
    """Return its answer."""
    return SubcallReplied(call=call, text=text, finish_reason="stop", usage=USAGE, seconds=0, attempts=1, served_by="x")


async def again(settings: Settings, tmp_path: Path, *events: Any, plan: Plan | None = None) -> Rerun:
    """Write the recording and run it again, within a minute."""
    folder = write_run(tmp_path / "theirs", run_id(1), events)
    async with asyncio.timeout(60):
        return await run_again(settings, folder, CONTEXT, plan or Plan(how="replay"))


async def test_a_made_up_recording_neither_hangs_nor_is_believed(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls without ends, sessions that there are not or that hold themselves, and lies about time come to an end.

    The replay tells what is missing, and what the cells did in truth.
    """
    catches = "try:\n    print({})\nexcept LLMQueryError as e:\n    print('no', e)"
    below = "print(rlm_query('down'))"
    circle: list[Any] = [asks("s2", 3, "down", "rlm"), answers("s2", "up")]
    inner: list[Any] = [(event, "s2") for event in [started("x"), stored("0" * 64), QuestionAsked(ask=1, question="?")]]
    inner += [(event, "s2") for event in turn(1, below, asks("s2", 1, "down", "rlm"), answers("s2", "me"))]
    deeper = [(event, f"{node}/s2") for event, node in inner]
    monkeypatch.setattr(delivery, "PATIENCE", 0.5)
    began = time.monotonic()
    came = await again(
        settings,
        tmp_path,
        *head(),
        *turn(1, catches.format("llm_query('never')"), asks("s1", 1, "never")),
        *turn(
            2,
            catches.format("rlm_query('none')"),
            answers("s9", "early"),
            asks("s9", 2, "none", "rlm"),
            answers("s9", "late"),
        ),
        *turn(3, below, *circle, *inner, *deeper),
        *turn(4, "while True: pass", CellInterrupted(cell=4, step="sigint", reason="stopped", seconds=-1e300)),
        *turn(5, "while True: pass", seconds=1e300),
        *turn(
            6,
            "print(llm_query('one'), llm_query('two'))",
            asks("s6", 6, "one"),
            asks("s6", 6, "two"),
            answers("s6", "same"),
        ),
    )
    assert time.monotonic() - began < 50
    printed = [line[2] for line in told(came.recording)[""] if line[0] == "text"]
    assert printed[0].startswith("no the sub-call failed (ReplayMismatch)")
    assert printed[1] == "late\n"
    assert printed[2] == "up\n"
    ends = [line[2] for line in told(came.recording)[""] if line[0] == "CellFinished"]
    assert ends == ["ok", "ok", "ok", "interrupted", "timed_out", "error"]
    assert ("", 1) in [(each.node, each.cell) for each in came.missing]
    assert isinstance(came.error, RlmKernelError)


@pytest.mark.parametrize(
    "events",
    [
        [*head(tools=[{"name": "__import__", "doc": "", "parameters": [], "returns": None}])],
        [*head(tools=[{"name": "f", "doc": 7}])],
        [*head(), QuestionAsked(ask=2, question="?", schema=["no schema"])],
        [*head(), QuestionAsked(ask=2, question="?", schema={"type": 7})],
        [*head(), QuestionAsked(ask=2, question=" ")],
        head()[:3],
        head()[:1],
    ],
    ids=["a tool's name", "a tool's shape", "a schema", "a broken schema", "no words", "no question", "no context"],
)
async def test_what_can_not_be_run_again_is_refused_before_anything_starts(
    settings: Settings, tmp_path: Path, events: list[AnyEvent]
) -> None:
    """A recording that no run writes is a clear error, and no run is recorded for it."""
    with pytest.raises(RecordingError) as raised:
        await again(settings, tmp_path, *events)
    assert isinstance(raised.value, RecordingDamaged) or "question" in str(raised.value) or "cells" in str(raised.value)
    assert not settings.runs_dir.exists()
