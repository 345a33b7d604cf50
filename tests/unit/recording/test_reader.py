"""Reading recordings, sound and damaged ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlm_kernel.errors import RecordingDamaged, RecordingError, RecordingTooNew
from rlm_kernel.events import TurnStarted
from rlm_kernel.recording import read_events

FIRST = b'{"v":1,"seq":0,"at":1.5,"event":{"type":"TurnStarted","turn":1}}\n'
SECOND = FIRST.replace(b'"seq":0', b'"seq":1').replace(b'"turn":1', b'"turn":2')


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def turns(path: Path) -> list[int]:
    return [record.event.turn for record in read_events(path) if isinstance(record.event, TurnStarted)]


def test_records_come_in_order(path: Path) -> None:
    """One for each line."""
    path.write_bytes(FIRST + SECOND)
    assert turns(path) == [1, 2]


def test_an_empty_recording_has_no_records(path: Path) -> None:
    """A run that was killed before its first event."""
    path.write_bytes(b"")
    assert turns(path) == []


@pytest.mark.parametrize("size", range(1, len(SECOND)))
def test_a_torn_last_line_is_left_out_and_told(path: Path, size: int) -> None:
    """Wherever it was torn."""
    path.write_bytes(FIRST + SECOND[:size])
    torn: list[int] = []
    assert len(list(read_events(path, on_torn=torn.append))) == 1
    assert torn == [size]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (SECOND[:-9] + b"\n", "not a record"),
        (b"\n", "not a record"),
        (b"[]\n", "not a record"),
        (b'{"seq":1}\n', "`v`"),
        (b"\xff\n", "not a record"),
        (b"\0" * 70 + b"\n", "not a record"),
        (b"[" * 100_000 + b"\n", "not a record"),
        (FIRST, "record 0 where 1 is due"),
        (SECOND.replace(b'"seq":1', b'"seq":2'), "record 2 where 1 is due"),
        (SECOND.replace(b'"v":1', b'"v":0'), "no schema has the version 0"),
        (SECOND.replace(b'"turn":2', b'"turn":"x"'), r"\$\.event\.turn"),
    ],
)
def test_other_damage_is_an_error_that_names_the_line(path: Path, line: bytes, words: str) -> None:
    """It is never skipped, and what came before it is given."""
    path.write_bytes(FIRST + line + SECOND)
    records = read_events(path)
    assert next(records).seq == 0
    with pytest.raises(RecordingDamaged, match=rf"events\.jsonl, line 2: .*{words}"):
        next(records)


def test_a_later_version_is_told_apart_from_damage(path: Path) -> None:
    """Even if this version could decode the line, or could not."""
    path.write_bytes(FIRST.replace(b'"v":1', b'"v":3'))
    with pytest.raises(RecordingTooNew, match="version 3"):
        turns(path)
    path.write_bytes(b'{"v":7,"what":"else"}\n')
    with pytest.raises(RecordingTooNew, match="Install a later rlm_kernel"):
        turns(path)


def test_an_unknown_field_is_ignored(path: Path) -> None:
    """A field with a default may be added within a version."""
    path.write_bytes(FIRST.replace(b'"turn":1', b'"turn":1,"mood":"good"'))
    assert turns(path) == [1]


def test_an_unknown_event_is_left_out(path: Path) -> None:
    """An event may be added within a version; a reader goes on behind it and is told its type."""
    later = FIRST.replace(b'"type":"TurnStarted","turn":1', b'"type":"MoodChanged","mood":{"good":true}')
    path.write_bytes(later + FIRST.replace(b'"seq":0', b'"seq":1'))
    unknown: list[str] = []
    assert [record.seq for record in read_events(path, on_unknown=unknown.append)] == [1]
    assert unknown == ["MoodChanged"]


def test_a_line_over_the_limit_is_damage(path: Path) -> None:
    """A reader's memory is bounded, also by a file without any newline."""
    path.write_bytes(b"x" * 1_000)
    with pytest.raises(RecordingDamaged, match="longer than 500 bytes"):
        list(read_events(path, line_limit=500))


def test_a_missing_recording_is_a_clear_error(path: Path) -> None:
    """The error names the file."""
    with pytest.raises(RecordingError, match=r"events\.jsonl: No such file"):
        turns(path)
