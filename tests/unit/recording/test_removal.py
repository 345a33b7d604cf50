"""Which runs a rule lets go, how they go, and what the others need."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from rlm_kernel.errors import RecordingError
from rlm_kernel.events import Notice
from rlm_kernel.recording import EVENTS_FILE, RecordingLog
from rlm_kernel.recording.removal import Rule, needed_digests, outlived, removable, remove_run
from rlm_kernel.storage import UNFINISHED, abandoned
from tests.support.recorded import finished, run_id, started, stored, write_run

DAY = 86400.0
NOW = time.time()


def aged(folder: Path, seconds: float) -> Path:
    """Make a run one that was last written to that long ago."""
    for path in (folder / EVENTS_FILE, folder):
        if path.exists():
            os.utime(path, (NOW - seconds, NOW - seconds))
    return folder


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Five runs of 1,000 bytes and more each; the later of two is the younger one, by a day."""
    for number in range(5):
        run = run_id(number)
        folder = write_run(tmp_path, run, [started(run, "x" * 1000), finished()])
        aged(folder, (5 - number) * DAY)
    return tmp_path


def _gone(state: Path, rule: Rule) -> list[int]:
    return [int(going.folder.name[-8:], 16) for going in outlived(state, rule, NOW)]


def test_a_rule_lets_the_oldest_go(state: Path) -> None:
    """By age, by size, by number, or by several of these; the last few may stay in any case."""
    one = (state / "runs" / run_id(0) / EVENTS_FILE).stat().st_size
    assert _gone(state, Rule()) == []
    assert _gone(state, Rule(days=2.5)) == [2, 1, 0]
    assert _gone(state, Rule(size=3 * one + 100)) == [1, 0]
    assert _gone(state, Rule(size=0)) == [3, 2, 1, 0]
    assert _gone(state, Rule(last=1)) == [3, 2, 1, 0]
    assert _gone(state, Rule(days=0.5)) == [4, 3, 2, 1, 0]
    assert _gone(state, Rule(days=0.5, last=4)) == [0]
    assert _gone(state, Rule(days=1.5, size=4 * one + 100)) == [3, 2, 1, 0]


def test_what_is_written_or_was_just_now_stays(state: Path) -> None:
    """Whatever the rule is; so does a folder that has no recording yet."""
    aged(state / "runs" / run_id(4), 60)
    with RecordingLog(state, run_id(9)) as log:
        aged(log.folder, 30 * DAY)
        (state / "runs" / run_id(8)).mkdir()
        assert _gone(state, Rule(days=0, last=0)) == [3, 2, 1, 0]
    assert _gone(state, Rule(last=0)) == [9, 3, 2, 1, 0]


def test_a_run_goes_as_a_whole(state: Path) -> None:
    """Also where several processes remove it at once; what a crash leaves has a name that is swept."""
    folder = state / "runs" / run_id(0)
    for number in range(300):
        (folder / f"file{number}").touch()
    threads = [threading.Thread(target=remove_run, args=(folder,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.name for path in (state / "runs").iterdir()) == [run_id(number) for number in range(1, 5)]


def test_what_a_crash_leaves_is_no_run_and_is_swept(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the rename nothing of it is a run any more, and as long as the process lives nobody else takes it."""

    def crash(path: Path) -> None:
        with abandoned(path) as left:
            assert not left
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.rmtree", crash)
    with pytest.raises(KeyboardInterrupt):
        remove_run(state / "runs" / run_id(0))
    left = [path for path in (state / "runs").iterdir() if path.name.startswith(UNFINISHED)]
    assert len(left) == 1
    with abandoned(left[0]) as free:
        assert free
    assert not (state / "runs" / run_id(0)).exists()


def test_only_a_run_of_this_state_folder_can_be_removed(state: Path, tmp_path: Path) -> None:
    """Not one elsewhere, behind a link, that is being written or begins, or that is not there."""
    runs = state / "runs"
    assert removable(state, runs / run_id(0) / EVENTS_FILE) == runs / run_id(0)
    (runs / run_id(6)).symlink_to(runs / run_id(0))
    (runs / run_id(7)).mkdir()
    elsewhere = write_run(tmp_path / "other", run_id(1), [started(run_id(1))])
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "runs").symlink_to(runs)
    refused = [
        (state, runs / run_id(6), "a link"),
        (state, runs / run_id(7), "is being written"),
        (state, runs / run_id(8), "there is no run"),
        (state, elsewhere, "remove it yourself"),
        (state, runs / "..", "remove it yourself"),
        (tmp_path / "linked", tmp_path / "linked" / "runs" / run_id(0), "a link"),
    ]
    for folder, run, words in refused:
        with pytest.raises(RecordingError, match=words):
            removable(folder, run / EVENTS_FILE)
    with RecordingLog(state, run_id(9)) as log, pytest.raises(RecordingError, match="is being written"):
        removable(state, log.path)


def test_every_context_that_is_named_anywhere_is_needed(tmp_path: Path) -> None:
    """Those of sessions below and indexes too, in torn and in damaged recordings; a folder without one needs none."""
    digests = [character * 64 for character in "abcd"]
    folder = write_run(
        tmp_path,
        run_id(1),
        [started(run_id(1)), stored(digests[0], digests[1]), (stored(digests[2]), "s1"), Notice(message="e" * 64)],
    )
    with (folder / EVENTS_FILE).open("ab") as file:
        file.write(b'{"?\n' + f'{{"type":"ContextStored","digest":"{digests[3]}"'.encode())
    (tmp_path / "runs" / run_id(2)).mkdir()
    needed = needed_digests([folder, tmp_path / "runs" / run_id(2)])
    assert set(digests) <= needed
    assert "e" * 64 not in needed


def test_what_an_unreadable_recording_needs_nobody_knows(tmp_path: Path) -> None:
    """So it is an error, not nothing."""
    folder = write_run(tmp_path, run_id(1), [])
    (folder / EVENTS_FILE).unlink()
    os.mkfifo(folder / EVENTS_FILE)
    with pytest.raises(RecordingError, match="no file"):
        needed_digests([folder])
