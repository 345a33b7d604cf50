"""The rule of the settings, as runs end and as the sweep goes by."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rlm_kernel import RLM
from rlm_kernel.assembly.plain import ask_plainly
from rlm_kernel.assembly.retention import retain, retain_contexts, retaining
from rlm_kernel.assembly.sinks import Listeners
from rlm_kernel.config import Settings
from rlm_kernel.errors import EngineUnavailable, RecordingError
from rlm_kernel.sandbox.contexts import ContextStore
from tests.support.recorded import finished, run_id, started, stored, write_run
from tests.unit.recording.test_removal import DAY, aged


def _old_context(settings: Settings, text: str) -> Path:
    context = ContextStore(settings.contexts_dir).put_value(text)
    os.utime(context.path, (time.time() - DAY, time.time() - DAY))
    return context.path


def test_runs_go_by_the_rule_and_without_one_they_stay(tmp_path: Path) -> None:
    """By default all are kept for ever; a failure to remove is none of the run's."""
    for number in range(3):
        aged(write_run(tmp_path, run_id(number), [started(run_id(number)), finished()]), (3 - number) * DAY)
    retain(Settings(state_dir=tmp_path))
    assert len(list((tmp_path / "runs").iterdir())) == 3
    retain(Settings(state_dir=tmp_path, keep_runs_days=1.5))
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [run_id(2)]
    (tmp_path / "runs" / run_id(2)).rename(tmp_path / "away")
    (tmp_path / "runs").rmdir()
    (tmp_path / "runs").touch()
    retain(Settings(state_dir=tmp_path, keep_runs_days=1.5))


@pytest.fixture
def rule(tmp_path: Path) -> Settings:
    """Settings with a rule that lets the one run go that is there."""
    aged(write_run(tmp_path / "state", run_id(1), [started(run_id(1))]), 3 * DAY)
    (tmp_path / "script.md").write_text("--- turn ---\n42\n")
    return Settings(model=f"scripted:{tmp_path / 'script.md'}", state_dir=tmp_path / "state", keep_runs_days=1)


async def test_the_rule_counts_for_every_run(rule: Settings) -> None:
    """For one that fails, and for a plain call: their recordings take up room as others do."""
    async with RLM(settings=replace(rule, docker_host="unix:///no/engine")) as rlm:
        with pytest.raises(EngineUnavailable):
            await rlm.acompletion("How many?", "text")
    assert not (rule.runs_dir / run_id(1)).exists()
    aged(write_run(rule.state_dir, run_id(1), [started(run_id(1))]), 3 * DAY)
    result = await ask_plainly("How many?", rule, Listeners())
    assert result.recording.exists()
    assert not (rule.runs_dir / run_id(1)).exists()


async def test_the_rule_counts_for_runs_that_are_cancelled(rule: Settings) -> None:
    """It is applied before the run has ended."""

    async def run() -> None:
        async with retaining(rule):
            running.set()
            await asyncio.Event().wait()

    running = asyncio.Event()
    task = asyncio.create_task(run())
    await running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(rule.runs_dir.iterdir()) == []


def test_contexts_are_looked_at_once_a_day_where_there_is_a_rule(tmp_path: Path) -> None:
    """Needed ones stay."""
    rule = Settings(state_dir=tmp_path, keep_runs_days=30)
    needless, needed = _old_context(rule, "a"), _old_context(rule, "b")
    write_run(tmp_path, run_id(1), [started(run_id(1)), stored(needed.name)])
    retain_contexts(Settings(state_dir=tmp_path))
    assert needless.exists()
    retain_contexts(rule)
    assert (needless.exists(), needed.exists()) == (False, True)
    another = _old_context(rule, "c")
    retain_contexts(rule)
    assert another.exists()
    mark = rule.contexts_dir / ".looked-at"
    os.utime(mark, (time.time() - 2 * DAY, time.time() - 2 * DAY))
    retain_contexts(rule)
    assert not another.exists()


def test_a_recording_that_cannot_be_read_keeps_all_contexts(tmp_path: Path) -> None:
    """As nobody knows what it needs."""
    rule = Settings(state_dir=tmp_path, keep_runs_days=30)
    context = _old_context(rule, "a")
    folder = write_run(tmp_path, run_id(1), [])
    (folder / "events.jsonl").unlink()
    os.mkfifo(folder / "events.jsonl")
    with pytest.raises(RecordingError):
        retain_contexts(rule)
    assert context.exists()
