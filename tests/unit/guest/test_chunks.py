"""Promises of `chunk()` in cells: it cuts, and the host is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from rlm_kernel.guest.chunks import CHUNKED_MIME, MOST_TOLD
from rlm_kernel.kernel import chunked
from tests.unit.guest.host import Cell, GuestHost


@pytest.fixture(scope="module")
def guest() -> Iterator[GuestHost]:
    """A guest whose texts are cut into lines unless a cell says otherwise."""
    with GuestHost() as host:
        host.bind("one\n\ntwo\nthree\n", chunk_strategy="lines")
        yield host


def told(cell: Cell) -> list[dict[str, Any]]:
    """Return the reports that a cell sent."""
    data = [out["content"]["data"] for out in cell.outputs if out["header"]["msg_type"] == "display_data"]
    return [each[CHUNKED_MIME] for each in data if CHUNKED_MIME in each]


def test_the_sessions_strategy_is_used(guest: GuestHost) -> None:
    """Without a strategy of its own a cell's call takes the session's; with one, that."""
    assert guest.run("chunk(context, size=8)").result == repr(["one\n\n", "two\n", "three\n"])
    assert guest.run("chunk(context, 'paragraphs', 14)").result == repr(["one\n\n", "two\nthree\n"])
    assert guest.run("[(c.start, c.end) for c in chunk(context, size=8)]").result == "[(0, 5), (5, 9), (9, 15)]"


def test_the_host_is_told(guest: GuestHost) -> None:
    """Each call is told with what was asked for and what came out, and not with any text."""
    assert told(guest.run("chunks = chunk(context, size=8, overlap=1)")) == [
        {"strategy": "lines", "size": 8, "overlap": 1, "chunks": 3, "characters": 17, "shortest": 5, "longest": 7}
    ]
    assert told(guest.run("chunk('', size=10**30)"))[0]["chunks"] == 0


def test_many_calls_are_told_in_part_only(guest: GuestHost) -> None:
    """A loop of calls neither floods the host nor uses up what a cell may display; the next cell counts anew."""
    cell = guest.run(f"for _ in range({MOST_TOLD} + 50):\n    chunk(context)\nprint('all cut')")
    assert len(told(cell)) == MOST_TOLD
    assert cell.text == "all cut\n"
    assert len(told(guest.run("chunk(context);"))) == 1


def test_both_ends_mean_the_same(guest: GuestHost) -> None:
    """The host reads what the guest sends, under the same name and within the same bounds."""
    assert (chunked.CHUNKED_MIME, chunked.MOST_RECORDED) == (CHUNKED_MIME, MOST_TOLD)
    (report,) = told(guest.run("chunk(context, size=10**40, overlap=10**30);"))
    assert len(json.dumps(report)) < chunked.LONGEST


def test_a_bad_call_is_the_cells_error(guest: GuestHost) -> None:
    """What can't be cut raises in the cell, with words that help."""
    cell = guest.run("chunk(context, 'pages')")
    assert (cell.reply["ename"], cell.reply["evalue"][:22]) == ("ValueError", "there is no strategy '")
    assert told(cell) == []


def test_chunks_are_prompts_and_answers(guest: GuestHost) -> None:
    """A chunk goes wherever a text goes."""
    assert guest.run("llm_query_batched(chunk(context, size=8))").result == repr(
        [f"re: {text}" for text in ("one\n\n", "two\n", "three\n")]
    )
    assert guest.run("FINAL(chunk(context, size=8))").end["final"]["value"] == ["one\n\n", "two\n", "three\n"]
