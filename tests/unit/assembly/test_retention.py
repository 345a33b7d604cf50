"""The rule of the settings, as runs end and as the sweep goes by."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from rlm_kernel.assembly.retention import retain, retain_contexts
from rlm_kernel.config import Settings
from rlm_kernel.errors import RecordingError
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
