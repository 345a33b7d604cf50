"""The index of a recording, against recordings that are kept and against damage."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlm_kernel.errors import RecordingDamaged, RecordingError
from rlm_kernel.events import (
    SCHEMA_VERSION,
    AnswerGiven,
    CellStarted,
    Notice,
    RunStarted,
    SandboxStarted,
    SubcallReplied,
)
from rlm_kernel.recording import Recording, RecordingLog, read_events

KEPT = Path(__file__).parents[2] / "recordings"
RUN = "20261121T073000Z-1f0c9a3e"


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A recording of four lines."""
    with RecordingLog(tmp_path, RUN) as log:
        log.emit(
            RunStarted(run=RUN, question="?", model="m", sub_model="m", package_version="1", python_version="3.11")
        )
        for word in ("one", "two", "three"):
            log.emit(Notice(message=word))
    return log.path


def test_what_belongs_to_what_is_known_without_holding_it() -> None:
    """Questions with their turns, turns with their cells, cells with their calls, and each record can be had."""
    with Recording(KEPT / "v1" / "session" / "events.jsonl") as recording:
        first, second = recording.root.questions
        assert [[cell.number for cell in turn.cells] for turn in first.turns] == [[1], [2], [3], [4]]
        assert second.ended is not None
        assert recording.expect(second.ended, AnswerGiven).ask == 2
        calls = first.turns[1].cells[0].calls
        ended = [recording.event(call.ended) for call in calls if call.ended is not None]
        assert [event.text for event in ended if isinstance(event, SubcallReplied)] == ["Rain.", "Sun.", "Wind."]
        assert recording.expect(first.turns[2].cells[0].started, CellStarted).code == "1 / 0\n"
        assert recording.started.tools[0]["name"] == "word_count"
        assert [context.kind for context in recording.contexts()] == ["str"]


def test_sessions_below_are_nodes() -> None:
    """Each under the name of the call that it answers."""
    with Recording(KEPT / "v1" / "children" / "events.jsonl") as recording:
        assert list(recording.nodes) == ["", "s1", "s2"]
        assert [call.kind for call in recording.root.calls.values()] == ["rlm", "rlm"]


def test_all_records_are_those_of_the_reader(written: Path) -> None:
    """In order."""
    with Recording(written) as recording:
        assert list(recording.records()) == list(read_events(written))
        assert len(recording) == 4


def test_every_line_names_the_one_before(written: Path) -> None:
    """A change of any line is seen at the next one; of the last, in the head alone."""
    with Recording(written) as recording:
        head = recording.head
    lines = written.read_bytes().splitlines(keepends=True)
    for number in range(3):
        changed = [*lines]
        changed[number] = changed[number].replace(b'"at":1', b'"at":2')
        written.write_bytes(b"".join(changed))
        with pytest.raises(RecordingDamaged, match=rf"line {number + 2}: it does not follow"):
            Recording(written)
    lines[3] = lines[3].replace(b"three", b"tree")
    written.write_bytes(b"".join(lines))
    with Recording(written) as recording:
        assert recording.head != head


def test_what_stands_before_damage_can_be_had(written: Path) -> None:
    """If that is asked for; the damage is told."""
    lines = written.read_bytes().splitlines(keepends=True)
    written.write_bytes(b"".join([*lines[:2], b"{}\n", *lines[2:]]))
    with Recording(written, partial=True) as recording:
        assert len(recording) == 2
        assert recording.damage is not None
        assert "line 3" in recording.damage


def test_a_torn_last_line_is_left_out(written: Path) -> None:
    """As a crash leaves it."""
    written.write_bytes(written.read_bytes()[:-5])
    with Recording(written) as recording:
        assert len(recording) == 3
        assert recording.torn


def test_a_file_that_begins_with_no_run_is_refused(tmp_path: Path) -> None:
    """An empty one too."""
    (tmp_path / "events.jsonl").write_bytes(b"")
    with pytest.raises(RecordingError, match="holds no run"):
        Recording(tmp_path / "events.jsonl")


def test_a_recording_of_each_version_is_kept() -> None:
    """For each it can be read to its end, and says what its version promises; tests of the program replay them."""
    for version in range(1, SCHEMA_VERSION + 1):
        kept = sorted((KEPT / f"v{version}").glob("*/events.jsonl"))
        assert len(kept) == 2
        for path in kept:
            with Recording(path) as recording:
                assert (recording.version, recording.damage, recording.torn, recording.unknown) == (
                    version,
                    None,
                    0,
                    {},
                )
                assert recording.finished is not None
                seeds = [recording.expect(seq, SandboxStarted).seed for seq in recording.root.sandboxes]
                assert all(seed is not None for seed in seeds) == (version > 1)
