"""Promises of the cuts, over any text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_kernel.guest.accounts import BYTES_BURST, CUT_HERE, DISPLAYS_COUNT, STREAM_LIMIT, CellAccounts
from rlm_kernel.guest.cuts import (
    BUNDLE_LIMIT,
    TRACEBACK_LIMIT,
    cut_bundle,
    cut_text,
    cut_traceback,
    head,
    json_size,
    utf8_size,
)
from rlm_kernel.guest.meter import OutputLimits, OutputMeter
from rlm_kernel.guest.rate import Rate

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
    """Entries that are too large are named in the text; a text is cut; small entries stay; all of it is counted."""
    bundle: dict[str, Any] = {"image/png": b"x" * 2_000_000, "text/plain": "y" * 2_000_000, "text/html": "<b>"}
    cut, left_out = cut_bundle(bundle)
    assert "image/png" not in cut
    assert "image/png of 2666670 bytes cut" in cut["text/plain"]
    assert "characters cut" in cut["text/plain"]
    assert cut["text/html"] == "<b>"
    assert len(json.dumps(cut)) < BUNDLE_LIMIT
    assert left_out == pytest.approx(2_666_670 + 2_000_000 - len(cut["text/plain"]), abs=100)


def cell(name: str) -> dict[str, Any]:
    """Return the header of a cell's request."""
    return {"msg_id": name}


def test_cells_have_accounts_of_their_own() -> None:
    """One cell's flood leaves the next one its whole share, and only the flooding one is marked."""
    accounts = CellAccounts()
    assert accounts.take_text(cell("a"), "x" * 3_000_000) == "x" * STREAM_LIMIT + CUT_HERE
    assert accounts.take_text(cell("a"), "more") == ""
    assert accounts.take_text(cell("b"), "fine") == "fine"
    assert accounts.marks() == [(cell("a"), "\n[… 2000004 bytes of output cut …]\n")]
    assert (accounts.cut("a"), accounts.cut("b")) == (2_000_004, 0)


def test_what_is_cut_later_is_marked_later() -> None:
    """Each cut is told once, and what a thread of an ended cell loses is told as that cell's."""
    accounts = CellAccounts()
    accounts.take_text(cell("a"), "x" * 1_000_001)
    assert [parent for parent, _ in accounts.marks()] == [cell("a")]
    for number in range(40):
        accounts.take_text(cell(f"b{number}"), "x")
        accounts.take_text(cell("a"), "late")
    assert accounts.marks() == [(cell("a"), "\n[… 160 bytes of output cut …]\n")]
    assert accounts.marks() == []


@given(st.lists(anything.map(lambda text: text * 3), max_size=20))
def test_what_is_written_is_kept_or_counted(texts: list[str]) -> None:
    """The bytes that pass and the bytes that are marked as cut are the bytes that were written."""
    accounts = CellAccounts()
    accounts.take_text(cell("a"), "x" * (STREAM_LIMIT - 500))
    passed = "".join(accounts.take_text(cell("a"), text) for text in texts)
    assert json_size(passed) <= 500 + len(json.dumps(CUT_HERE))
    kept, _, rest = passed.partition(CUT_HERE)
    assert rest == ""
    whole = "".join(texts)
    if utf8_size(whole) == len(whole.encode(errors="backslashreplace")):  # what can't be encoded is written longer
        assert len(kept.encode()) + accounts.cut("a") == utf8_size(whole)
        assert whole.startswith(kept)


def test_displays_are_counted() -> None:
    """A cell shows so many displays and no more."""
    accounts = CellAccounts()
    shown = sum(accounts.take_display(cell("a"), {"text/plain": "x"}) for _ in range(DISPLAYS_COUNT + 10))
    assert shown == DISPLAYS_COUNT
    assert "10 displays cut" in accounts.marks()[0][1]


def test_cells_together_are_held_to_a_rate() -> None:
    """One cell after the other can't pass more than the burst at once; a single cell has room for all it may write."""
    accounts = CellAccounts()
    kept = sum(len(accounts.take_text(cell(f"{number}"), "x" * STREAM_LIMIT)) for number in range(40))
    assert BYTES_BURST <= kept < BYTES_BURST * 1.5
    marked = sum(accounts.cut(f"{number}") for number in range(24, 40))
    assert marked >= 15 * STREAM_LIMIT


def test_a_rate_lets_a_burst_pass_and_then_so_much_per_second() -> None:
    """What was not used is saved up to the burst, no further."""
    now = 0.0
    rate = Rate(100, 10, lambda: now)
    assert rate.take(100)
    assert not rate.take(1)
    now = 1.0
    assert not rate.take(11)
    assert rate.take(10)
    now = 1000.0
    assert rate.left() == 100


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


def test_the_meter_holds_all_cells_to_a_rate() -> None:
    """What all cells together send stays within the burst, in bytes and in messages; the rest is reported as theirs."""
    meter = OutputMeter(OutputLimits(bytes_burst=1000, bytes_per_second=1, messages_burst=30, messages_per_second=1))
    for number in range(20):
        meter.start(f"{number}")
    large = sum(meter.admit(f"{number}", 100, 0, always=False) for number in range(20))
    assert large == 10
    assert [cell for cell, _, _ in meter.take_cuts()] == [f"{number}" for number in range(10, 20)]
    small = sum(meter.admit(f"{number % 20}", 0, 0, always=False) for number in range(60))
    assert small == 20
    assert sum(messages for _, _, messages in meter.take_cuts()) == 40
    assert meter.admit("0", 100, 0, always=True)


def test_what_always_passes_still_stops_at_twice_the_queue() -> None:
    """Not even a status may fill the memory when the host reads nothing."""
    meter = OutputMeter(OutputLimits(queue=1000))
    assert meter.admit("a", 100, 1900, always=True)
    assert not meter.admit("a", 101, 1900, always=True)
