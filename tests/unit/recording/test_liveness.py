"""Whether a recording is being written, with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rlm_kernel.errors import RecordingError
from rlm_kernel.events import TurnStarted
from rlm_kernel.recording import EVENTS_FILE, Recording, RecordingLog, is_written, read_events, run_folder

RUN = "20261121T073000Z-1f0c9a3e"

KILLED_IN_THE_MIDDLE = """
import subprocess, sys, threading
from pathlib import Path
from rlm_kernel.events import Notice, RunStarted
from rlm_kernel.recording import RecordingLog

log = RecordingLog(Path(sys.argv[1]), sys.argv[2])
log.emit(RunStarted(run="", question="", model="m", sub_model="m", package_version="", python_version=""))

def fill(number):
    while True:
        log.emit(Notice(message=str(number) * (1 + number * 300)), f"s{number}")

child = subprocess.Popen(["sleep", "600"], close_fds=False)
for number in range(50):
    threading.Thread(target=fill, args=(number,), daemon=True).start()
print(child.pid, flush=True)
child.wait()
"""


def test_a_recording_is_written_from_its_name_to_its_close(tmp_path: Path) -> None:
    """The writer may ask too, any number of times, and no question disturbs it."""
    with RecordingLog(tmp_path, RUN) as log:
        assert [is_written(log.path) for _ in range(3)] == [True] * 3
        log.emit(TurnStarted(turn=1))
        assert [path.name for path in log.folder.iterdir()] == [EVENTS_FILE]
    assert not is_written(log.path)


def test_a_kill_among_fifty_writers_leaves_a_whole_chain_and_no_lock(tmp_path: Path) -> None:
    """A child that the writer had started, and that inherits what it can, lives on and holds nothing."""
    path = run_folder(tmp_path, RUN) / EVENTS_FILE
    command = [sys.executable, "-c", KILLED_IN_THE_MIDDLE, str(tmp_path), RUN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        child = int(writer.stdout.readline())
        try:
            assert is_written(path)
            while path.stat().st_size < 2_000_000:
                assert writer.poll() is None
            writer.kill()
            assert writer.wait() == -signal.SIGKILL
            assert not is_written(path)
            with Recording(path) as recording:
                assert recording.damage is None
                assert len(recording.nodes) > 2
                assert len(list(recording.records())) == len(recording)
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_no_part_in_the_log(tmp_path: Path) -> None:
    """There the log is closed, and what it does with it changes neither the file nor the lock."""
    with RecordingLog(tmp_path, RUN, keep=False) as log:
        log.emit(TurnStarted(turn=1))
        begin, end = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with log:
                    log.emit(TurnStarted(turn=2))
            except RecordingError:
                status = 0
            finally:
                os.write(end, b"%d" % status)
                os.close(end)
                signal.pause()
                os._exit(1)
        try:
            assert os.read(begin, 1) == b"0"
            assert is_written(log.path)
            log.emit(TurnStarted(turn=3))
            assert [record.event for record in read_events(log.path)] == [TurnStarted(turn=1), TurnStarted(turn=3)]
            log.close()
            assert not is_written(log.path)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(begin)
            os.close(end)


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "link", "plain"])
def test_what_no_log_writes_is_not_written(tmp_path: Path, kind: str) -> None:
    """Nor does asking wait for a FIFO's other end, or follow a link to a recording that is written."""
    path = tmp_path / "events"
    with RecordingLog(tmp_path, RUN) as log:
        match kind:
            case "folder":
                path.mkdir()
            case "fifo":
                os.mkfifo(path)
            case "link":
                path.symlink_to(log.path)
            case "plain":
                path.write_text("")
        assert not is_written(path)
