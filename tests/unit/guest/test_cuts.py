"""Promises of the cuts, over any text."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rlm_kernel.guest.cuts import (
    BUNDLE_LIMIT,
    DISPLAYS_COUNT,
    STREAM_LIMIT,
    TRACEBACK_LIMIT,
    CellAccounts,
    cut_bundle,
    cut_text,
    cut_traceback,
    head,
    json_size,
)
from rlm_kernel.guest.meter import OutputLimits, OutputMeter

anything = st.text(st.characters(codec=None, exclude_categories=()), max_size=600)


@given(anything, st.integers(120, 700))
def test_a_cut_text_fits_and_is_sound(text: str, limit: int) -> None:
    """A cut text takes at most the limit as JSON, can be encoded, and is whole if it fits."""
    cut = cut_text(text, limit)
    assert len(json.dumps(cut, ensure_ascii=False).encode()) <= limit + 2
    if text.isascii() and json_size(text) <= limit:
        assert cut == text


@given(st.text(st.characters(codec="utf-8"), min_size=2000, max_size=3000))
def test_a_cut_says_how_much_is_missing(text: str) -> None:
    """Head, mark and tail account for every character."""
    cut = cut_text(text, 500)
    start, _, rest = cut.partition("\n[… ")
    number, _, end = rest.partition(" characters cut …]\n")
    assert text.startswith(start)
    assert text.endswith(end)
    assert len(start) + int(number) + len(end) == len(text)


@given(anything, st.integers(0, 100))
def test_head_is_a_prefix_within_the_limit(text: str, limit: int) -> None:
    """A head never takes more than its limit and the two quotes."""
    start = head(text, limit)
    assert text.startswith(start)
    assert not start or json_size(start) <= limit + 2


@given(st.lists(anything, max_size=40))
def test_a_traceback_stays_bounded(lines: list[str]) -> None:
    """A traceback of any length fits its limit."""
    cut = cut_traceback([line * 20 for line in lines])
    assert sum(map(json_size, cut)) <= TRACEBACK_LIMIT + 2 * len(lines) + 200


def test_a_bundle_names_what_it_leaves_out() -> None:
    """Entries that are too large are named in the text; a text is cut; small entries stay."""
    bundle: dict[str, Any] = {"image/png": b"x" * 2_000_000, "text/plain": "y" * 2_000_000, "text/html": "<b>"}
    cut = cut_bundle(bundle)
    assert "image/png" not in cut
    assert "image/png of 2666670 bytes cut" in cut["text/plain"]
    assert "characters cut" in cut["text/plain"]
    assert cut["text/html"] == "<b>"
    assert len(json.dumps(cut)) < BUNDLE_LIMIT


def test_cells_have_accounts_of_their_own() -> None:
    """One cell's flood leaves the next one its whole share, and only the flooding one is marked."""
    accounts = CellAccounts()
    assert len(accounts.take_text("a", "x" * 3_000_000)) == STREAM_LIMIT
    assert accounts.take_text("a", "more") == ""
    assert accounts.take_text("b", "fine") == "fine"
    assert "2000004 characters" in accounts.mark("a")
    assert accounts.mark("b") == ""


def test_displays_are_counted() -> None:
    """A cell shows so many displays and no more."""
    accounts = CellAccounts()
    shown = sum(accounts.take_display("a", {"text/plain": "x"}) for _ in range(DISPLAYS_COUNT + 10))
    assert shown == DISPLAYS_COUNT
    assert "10 displays cut" in accounts.mark("a")


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "other"]), st.integers(1, 200), st.booleans()), max_size=200))
def test_the_meter_admits_no_more_than_its_limits(outputs: list[tuple[str, int, bool]]) -> None:
    """Per cell no more than the limits passes, and each output either passes or is reported as cut."""
    meter = OutputMeter(OutputLimits(message=150, cell_bytes=1000, cell_messages=10, queue=10_000))
    meter.start("a")
    meter.start("b")
    passed: dict[str, int] = {}
    for cell, size, _ in outputs:
        if meter.admit(cell, size, 0, always=False):
            assert size <= 150
            passed[cell] = passed.get(cell, 0) + size
    assert all(size <= 1000 for size in passed.values())
    assert sum(passed.values()) + sum(size for _, size, _ in meter.take_cuts()) == sum(size for _, size, _ in outputs)
    assert meter.take_cuts() == []


def test_what_always_passes_still_stops_at_twice_the_queue() -> None:
    """Not even a status may fill the memory when the host reads nothing."""
    meter = OutputMeter(OutputLimits(queue=1000))
    assert meter.admit("a", 100, 1900, always=True)
    assert not meter.admit("a", 101, 1900, always=True)
