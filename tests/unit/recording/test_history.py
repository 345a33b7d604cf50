"""What earlier runs used."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from rlm_kernel.recording.history import HISTORY_FILE, MOST_BYTES, History, RunUse, usual


def run(tokens: int, model: str = "a:m") -> RunUse:
    """Return what a run used."""
    return RunUse(model=model, sub_model="a:s", tokens=tokens, cost=None)


def test_runs_of_the_same_models_are_found(tmp_path: Path) -> None:
    """What was added is there for the same pair of models, in order; a folder without a history has none."""
    history = History(tmp_path / "state")
    assert history.like("a:m", "a:s") == []
    for each in (run(1), run(2, "b:m"), run(3)):
        history.add(each)
    assert [each.tokens for each in History(tmp_path / "state").like("a:m", "a:s")] == [1, 3]
    assert (tmp_path / "state" / HISTORY_FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("damage", [b'{"model":"a:m","sub', b"\xff\xfe\x00", b'[]\n{"model":3}', b"\n\n\n"])
def test_damage_costs_the_damaged_line_alone(tmp_path: Path, damage: bytes) -> None:
    """A line that was cut off or overwritten is passed over, and neither those before nor those after it are lost."""
    history = History(tmp_path)
    history.add(run(1))
    with (tmp_path / HISTORY_FILE).open("ab") as file:
        file.write(damage)
    history.add(run(2))
    assert [each.tokens for each in history.like("a:m", "a:s")] == [1, 2]


def test_the_history_is_bounded_and_keeps_the_latest(tmp_path: Path) -> None:
    """However many runs are added, two files of a bounded size stay, with the latest runs in them."""
    history = History(tmp_path)
    (tmp_path / HISTORY_FILE).write_bytes(b"x" * MOST_BYTES)
    for number in range(4_000):
        history.add(run(number))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 2 * MOST_BYTES + 1_000
    kept = [each.tokens for each in history.like("a:m", "a:s")]
    assert kept == list(range(4_000 - len(kept), 4_000))
    assert len(kept) > 1_000


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    """Runs of several threads that end at once all leave their line."""

    def add_all() -> None:
        for number in range(50):
            History(tmp_path).add(run(number))

    threads = [threading.Thread(target=add_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(History(tmp_path).like("a:m", "a:s")) == 200


def test_what_is_usual_needs_some_runs() -> None:
    """The percentile is a value that was seen; with fewer than ten known ones, or none above 0, there is none."""
    assert usual(range(1, 101), 90) == 90
    assert usual([5] * 10, 100) == 5
    assert usual([1, 2, 3, None, None, None, None, None, None, None], 90) is None
    assert usual([0] * 20, 90) is None
