"""Terminals' escape sequences are found, and nothing else is taken for one."""

from __future__ import annotations

import time

import pytest

from rlm_kernel.controller.shown import plain
from rlm_kernel.text import ESCAPES


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bP+q544e\x1b\\text", "text"),
        ("\x9b31mred\x9d0;title\x9c", "red"),
        ("\x1b(Btext\x1b7", "text"),
        ("\x1b]0;title\nnext line\x07", "0;title\nnext line\x07"),
        ("\x1bPno end", "no end"),
    ],
)
def test_sequences_are_taken_out(text: str, left: str) -> None:
    """Each kind goes whole; a string without an end on its line hides nothing."""
    assert ESCAPES.sub("", text) == left


def test_an_open_sequence_hides_no_line_from_the_model() -> None:
    """What follows the beginning of a title that never ends is shown."""
    assert plain("a\x1b]b\nline 1\nline 2\n") == "ab\nline 1\nline 2\n"


@pytest.mark.parametrize("piece", ["\x1b]", "\x1b[", "\x9d", "\x1b[0", "\x1b ", "\x1bPx"])
def test_hostile_text_takes_no_longer(piece: str) -> None:
    """A megabyte of beginnings without ends is searched in time that grows with its length only."""
    text = piece * (1_000_000 // len(piece)) + "0" * 1_000_000
    started = time.monotonic()
    ESCAPES.sub("", text)
    assert time.monotonic() - started < 2
