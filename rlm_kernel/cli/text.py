"""Text for a terminal: what models and guests wrote must not reach it as it is."""

from __future__ import annotations

from rlm_kernel.text import ESCAPES

_BIDI = (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C)
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *_BIDI)
_DROPPED = {code: None for code in _CONTROLS if chr(code) not in "\n\t"}


def clean(text: str) -> str:
    """Return `text` without escape sequences, control characters and marks that reorder it, halves of characters shown.

    Newlines and tabs stay.
    """
    return ESCAPES.sub("", text).translate(_DROPPED).encode("utf-8", "backslashreplace").decode("utf-8")


def one_line(text: str, limit: int = 200) -> str:
    """Return `text` cleaned, on one line, cut at `limit` characters."""
    line = " ".join(clean(text).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
