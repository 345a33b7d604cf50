"""What a run is from, and what is from it."""

from __future__ import annotations

from pathlib import Path

from rlm_kernel.events import RunOrigin
from rlm_kernel.recording.family import Relative, family
from rlm_kernel.recording.summary import RunSummary
from tests.support.recorded import of


def _run(name: str, parent: str | None = None) -> RunSummary:
    origin: RunOrigin | None = None if parent is None else of(parent)
    return RunSummary(run=name, folder=Path(name), status="answered", origin=origin)


def _named(relative: Relative) -> list[object]:
    return [relative.run, *map(_named, relative.below)]


def test_all_who_come_from_the_same_run_are_a_family() -> None:
    """Seen from any of them, also where the first one is gone."""
    runs = [_run("d", "b"), _run("c", "a"), _run("b", "a"), _run("other")]
    for each in runs[:3]:
        root = family(each.run, each.origin, runs)
        assert _named(root) == ["a", ["b", ["d"]], ["c"]]
        assert root.summary is None
    assert _named(family("other", None, runs)) == ["other"]


def test_untrue_origins_end() -> None:
    """Runs that come from each other or from themselves, and endless lines of them."""
    assert _named(family("a", of("b"), [_run("a", "b"), _run("b", "a")])) == ["b", ["a"]]
    assert _named(family("a", of("a"), [_run("a", "a")])) == ["a"]
    line = [_run(str(number), str(number + 1)) for number in range(5000)]
    root, depth = family("0", of("1"), line), 0
    while root.below:
        root, depth = root.below[0], depth + 1
    assert depth == 20
