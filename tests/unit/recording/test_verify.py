"""Verifying a recording, against the head that was kept of it and against none."""

from __future__ import annotations

import hashlib
import shutil
import stat
from pathlib import Path

import msgspec
import pytest

from rlm_kernel.errors import RecordingAltered, RecordingDamaged, RecordingError, RecordingUnproven
from rlm_kernel.events import Notice, RunFinished
from rlm_kernel.recording import Head, RecordingLog, kept_head, verify
from tests.unit.recording.test_index import KEPT, RUN


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A recording of five lines, whose head is kept in `tmp_path`."""
    with RecordingLog(tmp_path, RUN) as log:
        for word in ("one", "two", "three", "four"):
            log.emit(Notice(message=word))
        log.emit(RunFinished(status="answered", answer="x", seconds=1, turns=1, usage={}))
    return log.path


def rechained(lines: list[bytes]) -> bytes:
    """The lines with a chain as whoever edits them would compute it anew."""
    done, prev = b"", ""
    for line in lines:
        record = msgspec.json.decode(line)
        record = {name: value for name, value in record.items() if name != "prev"} | ({"prev": prev} if prev else {})
        encoded = msgspec.json.encode(record)
        done, prev = done + encoded + b"\n", hashlib.sha256(encoded).hexdigest()
    return done


def split(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_a_whole_recording_is_what_was_kept(path: Path, tmp_path: Path) -> None:
    """The head is kept when the run ends, privately, and it is the last line's digest."""
    verified = verify(path, tmp_path)
    assert verified.head == kept_head(tmp_path, RUN) == Head(hashlib.sha256(split(path)[-1][:-1]).hexdigest(), 5)
    assert (verified.against, verified.finished) == ("the head that was kept when the run ended", True)
    assert verify(path, tmp_path, verified.head.digest).against == "the head that was given"
    assert stat.S_IMODE((tmp_path / "heads" / RUN).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "heads").stat().st_mode) == 0o700


def test_an_edit_is_shown_by_the_next_line(path: Path, tmp_path: Path) -> None:
    """No head is needed for that."""
    path.write_bytes(path.read_bytes().replace(b"two", b"tow"))
    (tmp_path / "heads" / RUN).unlink()
    with pytest.raises(RecordingDamaged, match="line 3: it does not follow"):
        verify(path, tmp_path)


@pytest.mark.parametrize("given", [True, False], ids=["given", "kept"])
def test_a_chain_that_was_computed_anew_is_shown_by_the_head(path: Path, tmp_path: Path, given: bool) -> None:
    """It follows all along, and so it passes where there is no head, which is said."""
    head = verify(path, tmp_path).head.digest
    path.write_bytes(rechained([line.replace(b"two", b"tow") for line in split(path)]))
    with pytest.raises(RecordingAltered, match="none of them has this head"):
        verify(path, tmp_path, head if given else None)
    (tmp_path / "heads" / RUN).unlink()
    assert verify(path, tmp_path).against is None


def test_a_cut_tail_is_shown_and_counted(path: Path, tmp_path: Path) -> None:
    """Against the kept head; against a digest alone too, which does not know how many there were."""
    head = verify(path, tmp_path).head.digest
    path.write_bytes(b"".join(split(path)[:3]))
    with pytest.raises(RecordingAltered, match="has 3 records, and 5 were written"):
        verify(path, tmp_path)
    with pytest.raises(RecordingAltered, match="those at the end are missing"):
        verify(path, tmp_path, head)
    (tmp_path / "heads" / RUN).unlink()
    assert not verify(path, tmp_path).finished


def test_what_was_added_is_shown_and_counted(path: Path, tmp_path: Path) -> None:
    """Whole lines, and bytes that are none."""
    lines = split(path)
    path.write_bytes(rechained([*lines, lines[1].replace(b'"seq":1', b'"seq":5')]))
    with pytest.raises(RecordingAltered, match="1 of them were added"):
        verify(path, tmp_path)
    path.write_bytes(b"".join([*lines, b"xyz"]))
    with pytest.raises(RecordingAltered, match="3 bytes were added"):
        verify(path, tmp_path)


def test_version_1_shows_nothing(tmp_path: Path, path: Path) -> None:
    """Nor does a recording that was made to look like one, but for not being the one whose head was kept."""
    with pytest.raises(RecordingUnproven, match="nothing can be shown"):
        verify(KEPT / "v1" / "session" / "events.jsonl", tmp_path)
    records = [msgspec.json.decode(line) | {"v": 1} for line in split(path)]
    path.write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in records))
    with pytest.raises(RecordingAltered, match="none of them has this head"):
        verify(path, tmp_path)
    (tmp_path / "heads" / RUN).unlink()
    with pytest.raises(RecordingUnproven):
        verify(path, tmp_path)
    with pytest.raises(RecordingUnproven):
        verify(path, tmp_path, hashlib.sha256(split(path)[-1][:-1]).hexdigest())


def test_contexts_are_held_against_their_names(path: Path, tmp_path: Path) -> None:
    """Those in the run's folder."""
    digest = hashlib.sha256(b"text").hexdigest()
    (path.parent / "contexts").mkdir()
    (path.parent / "contexts" / digest).write_bytes(b"text")
    (path.parent / "contexts" / "other").write_bytes(b"is passed over")
    assert verify(path, tmp_path).contexts == (digest,)
    (path.parent / "contexts" / digest).write_bytes(b"test")
    with pytest.raises(RecordingAltered, match="is not what its name says"):
        verify(path, tmp_path)


@pytest.mark.parametrize("digest", ["", "x", "A" * 64, "../" * 30])
def test_what_is_no_head_is_refused(path: Path, tmp_path: Path, digest: str) -> None:
    """In words."""
    with pytest.raises(RecordingError, match="is no head"):
        verify(path, tmp_path, digest)


@pytest.mark.parametrize("kept", [b"", b"{}", b"[]", b"\xff", b'{"digest":1,"records":2}', b"x" * 10_000])
def test_a_damaged_kept_head_counts_as_none(path: Path, tmp_path: Path, kept: bytes) -> None:
    """A power cut may leave one."""
    (tmp_path / "heads" / RUN).write_bytes(kept)
    assert verify(path, tmp_path).against is None


def test_a_run_that_is_not_kept_leaves_no_head(tmp_path: Path) -> None:
    """Nor anything else."""
    with RecordingLog(tmp_path, RUN, keep=False) as log:
        log.emit(Notice(message="x"))
    assert kept_head(tmp_path, RUN) is None
    assert not log.folder.exists()


def test_a_head_belongs_to_a_run_by_its_folders_name(path: Path, tmp_path: Path) -> None:
    """One that was copied elsewhere under another name has none."""
    copy = shutil.copytree(path.parent, tmp_path / "copy")
    assert verify(copy / "events.jsonl", tmp_path).against is None
