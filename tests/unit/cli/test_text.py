"""Nothing that a model or guest writes can steer a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_kernel.cli.text import clean, one_line


@pytest.mark.parametrize(
    ("hostile", "plain"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[Hgone", "gone"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]52;c;cm0gLXJm\x07copied", "copied"),
        ("\x9b31mred", "red"),
        ("\x9d0;title\x9ctext", "text"),
        ("a\rb\bc\x7f\x00", "abc"),
        ("user\u202egnp.exe", "usergnp.exe"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("half \ud83d", "half \\ud83d"),
        ("Ärger 🙂 日本", "Ärger 🙂 日本"),
    ],
)
def test_escape_sequences_and_controls_are_gone(hostile: str, plain: str) -> None:
    """Colours, titles, links, the clipboard, carriage returns and reordering marks are taken out; text stays."""
    assert clean(hostile) == plain


@given(st.text(alphabet=st.characters(codec=None, categories=None)))
def test_no_control_character_survives(text: str) -> None:
    """Whatever comes in, only newlines and tabs of the control characters go out, and it can be encoded."""
    cleaned = clean(text)
    cleaned.encode()
    assert {character for character in cleaned if unicodedata.category(character) == "Cc"} <= {"\n", "\t"}


def test_one_line_is_one_short_line() -> None:
    """Line breaks become spaces and the rest is cut."""
    assert one_line("a\n\n b\x1b[1m" + "c" * 300, 10) == "a bcccccc…"
