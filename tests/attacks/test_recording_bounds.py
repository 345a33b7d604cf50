"""What a recording can make its readers hold, compute or write, and what a cell can make of its own one."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rlm_kernel.assembly.rerun.played import MOST_MORE, Playing
from rlm_kernel.assembly.rerun.recorded import lifted, recorded_settings
from rlm_kernel.assembly.rerun.resume import _furthest
from rlm_kernel.config import Settings
from rlm_kernel.errors import RecordingDamaged, ReplayMismatch
from rlm_kernel.events import CellFinished
from rlm_kernel.recording import Recording, index, read_events
from rlm_kernel.recording.compare.runs import compare_runs
from rlm_kernel.recording.nesting import MOST_NESTING, TOO_DEEP
from rlm_kernel.recording.removal import needed_digests
from rlm_kernel.recording.tape import Tape
from rlm_kernel.types import JSON
from tests.support import hostile_recordings as corpus
from tests.support.recorded import run_id, started, write_run

BOX: dict[str, Any] = {
    "type": "SandboxStarted",
    "runtime": "d",
    "oci_runtime": "r",
    "engine": "e",
    "container": "c",
    "image": "i",
}
BOX |= {"image_id": "i", "carrier": "socket", "uid": 1, "seen": {}}


def recorded(tmp_path: Path, *events: Any) -> Path:
    return corpus.write(tmp_path / corpus.RUN, corpus.chained([corpus.STARTED, *events]))


def nested(levels: int) -> JSON:
    value: JSON = "core"
    for level in range(levels):
        value = [value] if level % 2 else {"in": value}
    return value


def deepest(value: JSON) -> Iterator[JSON]:
    while isinstance(value, dict | list):
        (value,) = value.values() if isinstance(value, dict) else value
        yield value


def test_an_answer_of_many_levels_leaves_a_recording_that_can_be_read(tmp_path: Path) -> None:
    """A message may be nested as deeply as the host can just decode it; who reads it back has less room for that."""
    events = [CellFinished(cell=1, status="ok", seconds=0.1, final=nested(levels)) for levels in (980, MOST_NESTING)]
    folder = write_run(tmp_path, run_id(1), [started(run_id(1)), *events])
    _, deep, other = (record.event for record in read_events(folder / "events.jsonl"))
    assert isinstance(deep, CellFinished)
    *_, last = deepest(deep.final)
    assert last == TOO_DEEP
    assert other == events[1]


def test_an_index_has_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More cells and calls than fit into memory, names without end, and types of events that nobody knows."""
    monkeypatch.setattr(index, "MOST_PARTS", 10)
    path = recorded(tmp_path / "cells", corpus.ASKED, corpus.TURN, *[corpus.CELL] * 9)
    with pytest.raises(RecordingDamaged, match="more than 10 questions"):
        Recording(path)
    with Recording(path, partial=True) as recording:
        assert len(recording) == 11
    with pytest.raises(RecordingDamaged, match="no call is called"):
        Recording(recorded(tmp_path / "names", *corpus.WHOLE[1:5], corpus.CALL | {"call": "s" * 1000}))
    kinds = [{"type": f"{'Invented' * 1000}{number}"} for number in range(500)]
    kinds += [{"type": f"I{number}"} for number in range(500)]
    with Recording(recorded(tmp_path / "kinds", *kinds)) as recording:
        assert sum(recording.unknown.values()) == 1000
        assert len(recording.unknown) == index.MOST_UNKNOWN + 1
        assert max(map(len, recording.unknown)) == index.LONGEST_NAME


def test_a_sandbox_is_read_once_for_all_cells(tmp_path: Path) -> None:
    """However large its event is made: its place in the file can be read as often as there are cells."""
    cells = [each | {"cell": cell} for cell in range(1, 201) for each in (corpus.CELL, corpus.DONE)]
    box = BOX | {"container": "ab " * 2_000_000}
    with Recording(recorded(tmp_path, corpus.STORED, box, corpus.ASKED, corpus.TURN, *cells)) as recording:
        began = time.process_time()
        assert compare_runs(recording, recording).counts == {"identical": 200}
        assert time.process_time() - began < 5  # it took 12 s


def test_where_a_resumed_run_is_from_is_looked_for_beside_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at a path that the recording gives, nor with an error of ours where its own path is a short one."""
    for number, run in enumerate((corpus.UP, corpus.RUN)):
        origin = {"how": "resume", "run": run, "records": 1, "head": "0" * 64, "turn": None}
        path = recorded(tmp_path / str(number), corpus.ASKED)
        path.write_bytes(corpus.chained([corpus.STARTED | {"origin": origin}, corpus.ASKED]))
        monkeypatch.chdir(path.parent)
        with _furthest(Recording(Path("events.jsonl"))) as recording:
            assert recording.path == Path("events.jsonl")


def test_limits_that_a_recording_lifts_are_told() -> None:
    """Those beyond what a run of the user's own would have; one that the user has set is not lifted at all."""
    most = {"max_subcalls": None, "max_turns": 10**6, "max_depth": 100, "max_cost": 10**6, "cell_timeout": 1}
    own = Settings(max_cost=1.0, max_depth=2)
    assert lifted(replace(own, max_cost=0.5), own) == []
    told = " ".join(lifted(led(most, own), own))
    assert all(text in told for text in ("--max-subcalls is none", "--max-turns is 1000000"))
    assert not any(text in told for text in ("--max-cost", "--max-depth", "--cell-timeout"))


def led(recorded: dict[str, Any], own: Settings) -> Settings:
    class Said:
        started = msgspec.structs.replace(started(run_id(1), model="vllm:a"), settings=recorded, sub_model="vllm:a")

    return recorded_settings(Said(), own)  # type: ignore[arg-type]


def test_cells_that_run_again_do_not_fill_the_disk(tmp_path: Path) -> None:
    """A short cell can give out as much as any: what a replay writes is bound by what was recorded."""
    written = tmp_path / "events.jsonl"
    with Recording(recorded(tmp_path, *corpus.WHOLE[1:])) as recording:
        playing = Playing(tape=Tape(recording), is_live=False, cell_timeout=1, events=written)
        for more, room in ((0, True), (1, False)):
            with written.open("wb") as file:
                file.truncate(2 * recording.path.stat().st_size + MOST_MORE + more)
            if room:
                playing.check_room()
            else:
                with pytest.raises(ReplayMismatch, match="far more than was recorded"):
                    playing.check_room()


def test_what_a_run_needs_is_not_looked_for_behind_a_line_without_end(tmp_path: Path) -> None:
    """A file with a hole of a terabyte takes no room; reading all of it would take hours."""
    path = corpus.write(tmp_path / corpus.RUN, corpus.GOOD)
    os.truncate(path, 2**40)
    began = time.process_time()
    assert needed_digests([path.parent]) == {corpus.DIGEST, *re.findall("[0-9a-f]{64}", lines_with_contexts())}
    assert time.process_time() - began < 5


def lines_with_contexts() -> str:
    return "".join(line for line in corpus.GOOD.decode().splitlines() if "ContextStored" in line)
