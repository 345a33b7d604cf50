"""Writing a recording, with real files."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rlm_kernel.errors import RecordingError, StorageError, StorageFull
from rlm_kernel.events import SCHEMA_VERSION, AnyEvent, CellFinished, Notice, RunFinished, TurnStarted
from rlm_kernel.recording import AtNode, RecordingLog, Tee, new_run_id, read_events, run_folder
from rlm_kernel.types import JSON, Usage
from tests.support.fakes import ListSink

RUN = "20261121T073000Z-1f0c9a3e"


def open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def events(log: RecordingLog) -> list[AnyEvent]:
    return [record.event for record in read_events(log.path)]


def fill(log: RecordingLog, event: AnyEvent) -> None:
    for _ in range(100):
        log.emit(event)


def test_what_is_emitted_can_be_read_back_at_once(tmp_path: Path) -> None:
    """Lines are there before the log is closed, numbered and timed."""
    finished = RunFinished(
        status="answered", answer="é", seconds=1.5, turns=1, usage={"m": Usage(calls=1, cost_usd=None)}
    )
    before = time.time()
    with RecordingLog(tmp_path, RUN) as log:
        log.emit(TurnStarted(turn=1))
        log.emit(finished)
        records = list(read_events(log.path))
    assert [record.event for record in records] == [TurnStarted(turn=1), finished]
    assert [(record.v, record.seq) for record in records] == [(SCHEMA_VERSION, 0), (SCHEMA_VERSION, 1)]
    assert before <= records[0].at <= records[1].at <= time.time()


def test_folders_and_file_are_private(tmp_path: Path) -> None:
    """Only the user can read a recording, whatever the umask is."""
    state = tmp_path / "new" / "rlm_kernel"
    mask = os.umask(0)
    try:
        with RecordingLog(state, RUN) as log:
            modes = [stat.S_IMODE(path.stat().st_mode) for path in (state, state / "runs", log.folder, log.path)]
    finally:
        os.umask(mask)
    assert log.path == state / "runs" / RUN / "events.jsonl"
    assert modes == [0o700, 0o700, 0o700, 0o600]


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    """A second log of the same id is refused and leaves the first as it is."""
    with RecordingLog(tmp_path, RUN) as log:
        log.emit(TurnStarted(turn=1))
        with pytest.raises(RecordingError, match="never used twice"):
            RecordingLog(tmp_path, RUN)
        assert events(log) == [TurnStarted(turn=1)]


@pytest.mark.parametrize(
    "run", ["", "..", "../x", "20261121T073000Z-1f0c9a3e/..", "20261121T073000Z-1F0C9A3E", f"{RUN}\n"]
)
def test_what_is_no_run_id_is_refused(tmp_path: Path, run: str) -> None:
    """A path in place of an id leads nowhere."""
    with pytest.raises(RecordingError, match="not a run's id"):
        run_folder(tmp_path, run)


def test_run_ids_sort_by_time_and_differ() -> None:
    """An id is valid, and later ones sort later."""
    early = new_run_id(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert early.startswith("20260102T030405Z-")
    assert early < new_run_id()
    assert new_run_id() != new_run_id()
    assert run_folder(Path("/s"), early) == Path("/s/runs") / early


def test_a_file_in_the_folders_place_is_a_clear_error(tmp_path: Path) -> None:
    """The error names the path and the way out."""
    (tmp_path / "state").write_text("")
    with pytest.raises(StorageError, match=r"state.*--state-dir"):
        RecordingLog(tmp_path / "state", RUN)


def test_hostile_text_is_recorded(tmp_path: Path) -> None:
    """Lone surrogates, newlines and NULs neither break a line nor stop the run."""
    value: JSON = {"k\ud800": ["a\udfff", 1, None, 2**70], "n": "\n\0\u2028"}
    with RecordingLog(tmp_path, RUN) as log:
        log.emit(CellFinished(cell=1, status="ok", seconds=0, evalue="\ud83d", final=value))
        log.emit(TurnStarted(turn=1))
        first, second = events(log)
    assert isinstance(first, CellFinished)
    assert (first.evalue, first.final) == ("?", {"k?": ["a?", 1, None, 2**70], "n": "\n\0\u2028"})
    assert second == TurnStarted(turn=1)


def test_an_event_that_can_not_be_written_leaves_no_trace(tmp_path: Path) -> None:
    """A number beyond all that is read is a clear error, and the log goes on."""
    with RecordingLog(tmp_path, RUN) as log:
        with pytest.raises(RecordingError, match="CellFinished can't be recorded"):
            log.emit(CellFinished(cell=1, status="ok", seconds=0, final=10**5000))
        log.emit(TurnStarted(turn=1))
        assert events(log) == [TurnStarted(turn=1)]


def test_threads_may_emit_together(tmp_path: Path) -> None:
    """No line is mixed with another, and numbers have no gap."""
    with RecordingLog(tmp_path, RUN) as log:
        threads = [threading.Thread(target=fill, args=(log, Notice(message=str(n) * 5_000))) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(events(log)) == 800


def test_a_closed_log_refuses_events_and_leaves_nothing(tmp_path: Path) -> None:
    """Its thread and file are gone; closing again does nothing."""
    threads, files = threading.active_count(), open_files()
    log = RecordingLog(tmp_path, RUN)
    log.close()
    log.close()
    with pytest.raises(RecordingError, match="is closed"):
        log.emit(TurnStarted(turn=1))
    assert (threading.active_count(), open_files()) == (threads, files)


def test_killing_the_process_loses_nothing(tmp_path: Path) -> None:
    """Every event that was acknowledged before a kill -9 is in the file."""
    program = """
import sys
from pathlib import Path
from rlm_kernel.events import TurnStarted
from rlm_kernel.recording import RecordingLog
log = RecordingLog(Path(sys.argv[1]), sys.argv[2])
turn = 0
while True:
    log.emit(TurnStarted(turn=turn))
    print(turn, flush=True)
    turn += 1
"""
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path), RUN], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        for _ in range(200):
            process.stdout.readline()
        process.kill()
        last = [line for line in process.stdout.read().split("\n")[:-1] if line]
    assert process.wait() == -signal.SIGKILL
    acknowledged = int(last[-1]) if last else 199
    records = list(read_events(run_folder(tmp_path, RUN) / "events.jsonl"))
    assert len(records) >= acknowledged + 1
    assert [record.event for record in records] == [TurnStarted(turn=n) for n in range(len(records))]


def test_a_write_cut_short_stops_the_log(tmp_path: Path) -> None:
    """After a torn line nothing follows, so the file stays a true beginning of the run."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RecordingLog(tmp_path, RUN) as log:
        log.emit(TurnStarted(turn=1))
        resource.setrlimit(resource.RLIMIT_FSIZE, (log.path.stat().st_size + 100, hard))
        try:
            with pytest.raises(StorageFull, match=r"events\.jsonl.*XDG_STATE_HOME"):
                log.emit(Notice(message="x" * 1_000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        with pytest.raises(StorageFull):
            log.emit(TurnStarted(turn=2))
        torn: list[int] = []
        assert [record.event for record in read_events(log.path, on_torn=torn.append)] == [TurnStarted(turn=1)]
        assert torn == [100]


def test_a_first_write_without_room_is_storage_full(tmp_path: Path) -> None:
    """The run does not start when nothing of it can be recorded."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RecordingLog(tmp_path, RUN) as log:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            with pytest.raises(StorageFull):
                log.emit(TurnStarted(turn=1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 64 KiB and 6 names."""
    options = ["-t", "tmpfs", "-o", "size=64k,nr_inodes=7"]
    mounted = subprocess.run(["mount", *options, "none", str(tmp_path)], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small disk can't be mounted, the file size limit stands in for it above: {mounted.stderr}")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_disk_is_storage_full(small_disk: Path) -> None:
    """What fits is kept, and the event that does not is an error."""
    with RecordingLog(small_disk, RUN) as log:
        notice = Notice(message="x" * 5_000)
        with pytest.raises(StorageFull, match="No space left on device"):
            fill(log, notice)
        kept = events(log)
    assert 5 < len(kept) < 13
    assert set(map(str, kept)) == {str(notice)}


def test_a_disk_without_room_for_the_folder_is_storage_full(small_disk: Path) -> None:
    """Nothing was started, and the error names the path."""
    for name in range(6):
        (small_disk / str(name)).touch()
    with pytest.raises(StorageFull, match=str(small_disk)):
        RecordingLog(small_disk, RUN)


class Failing:
    def emit(self, event: AnyEvent, node: str = "") -> None:
        raise OSError("display")


def test_a_tee_hands_events_on_in_order() -> None:
    """The recording has an event before a display's failure comes out, and what is not recorded is not shown."""
    recorded, shown = ListSink(), ListSink()
    Tee(recorded, shown).emit(TurnStarted(turn=1))
    assert recorded.events == shown.events == [TurnStarted(turn=1)]
    with pytest.raises(OSError, match="display"):
        Tee(recorded, Failing()).emit(TurnStarted(turn=2))
    assert recorded.events[-1] == TurnStarted(turn=2)
    with pytest.raises(OSError, match="display"):
        Tee(Failing(), shown).emit(TurnStarted(turn=3))
    assert TurnStarted(turn=3) not in shown.events


def test_sessions_below_share_the_recording(tmp_path: Path) -> None:
    """Events of sessions that sub-calls started are lines of the same file, each with its place in the run."""
    with RecordingLog(tmp_path, RUN) as log:
        log.emit(TurnStarted(turn=1))
        AtNode(log, "s12/s3").emit(TurnStarted(turn=2))
        AtNode(Tee(log), "s12").emit(TurnStarted(turn=3))
    assert [(record.node, record.seq) for record in read_events(log.path)] == [("", 0), ("s12/s3", 1), ("s12", 2)]
    assert "node" not in json.loads(log.path.read_text().splitlines()[0])
