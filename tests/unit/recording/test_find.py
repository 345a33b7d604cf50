"""Finding a run by what a user writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlm_kernel.errors import RecordingError, StorageError
from rlm_kernel.recording import EVENTS_FILE, find_run

RUNS = ("20261121T073000Z-1f0c9a3e", "20261121T073000Z-2f0c9a3f", "20261122T073000Z-3f0c9a30")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder with three runs, and what is none."""
    for run in (*RUNS, "notes"):
        (tmp_path / "runs" / run).mkdir(parents=True)
        (tmp_path / "runs" / run / EVENTS_FILE).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("named", "run"), [(RUNS[0], 0), ("last", 2), ("20261122", 2), ("3f0c9a30", 2), ("20261121T073000Z-2", 1)]
)
def test_a_run_is_found_by_what_names_it_alone(state: Path, named: str, run: int) -> None:
    """Its id, a beginning or an end of it, or `last`."""
    assert find_run(state, named) == state / "runs" / RUNS[run] / EVENTS_FILE


def test_a_path_is_taken_as_it_is(state: Path) -> None:
    """A folder's or a file's, wherever it lies."""
    folder = state / "runs" / RUNS[0]
    assert find_run(Path("/nowhere"), str(folder)) == find_run(Path("/nowhere"), str(folder / EVENTS_FILE))


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("20261121", "of 2 runs' ids"),
        ("2025", "no run"),
        ("", "no run"),
        ("../x", "no recording at"),
        ("notes", "no run"),
        ("x" * 300, "File name too long"),
        ("~nobody-is-called-so", "no run"),
        ("~nobody-is-called-so/x", "no recording at"),
    ],
)
def test_anything_else_is_a_clear_error(state: Path, named: str, words: str) -> None:
    """What more than one run has, or none, or a path without a recording."""
    with pytest.raises(RecordingError, match=words):
        find_run(state, named)


def test_a_state_folder_that_cannot_be_looked_into_is_told(tmp_path: Path) -> None:
    """Whatever keeps it from that."""
    with pytest.raises(StorageError, match="can't use the state folder"):
        find_run(tmp_path / ("x" * 300), "last")
