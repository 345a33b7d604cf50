"""Text in documents: what a reader must see is made visible, and none of it is more than text to their format."""

from __future__ import annotations

import html
import re

from rlm_kernel.text import ESCAPES, encodable
from rlm_kernel.types import JSON

_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")
_UNUSUAL = re.compile(f"{_UNSEEN.pattern}|[\ud800-\udfff]")
_USUAL = bytes([*b"\t\n", *range(0x20, 0x7F)])
_SPECIAL = re.compile(r"[$\\`*_\[\]<>&|~@]|:(?=//)|(?<=[wW])\.")
_MATHEMATICS = re.compile(r"[$\\]")
_AT_START = re.compile(r"^([ \t]*)(?:([#+\-=:])|(\d{1,9})([.)])(?=[ \t]|$))", re.MULTILINE)
_TICKS = re.compile("`+")


def seen(text: str) -> str:
    """Return `text` without terminal codes; each control character and each mark that reorders text as `\\u202e`."""
    if text.isascii() and not text.encode().translate(None, _USUAL):
        return text
    if _UNUSUAL.search(text) is None:
        return text
    text = ESCAPES.sub("", text).replace("\r\n", "\n")
    return encodable(_UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def printed(text: str) -> str:
    """Return what a stream shows: of lines that were overwritten, as progress bars do, the last state."""
    text = text.replace("\r\n", "\n")
    if "\r" in text:
        text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return seen(text)


def one_line(text: str) -> str:
    """Return `text` on one line."""
    return " ".join(seen(text).split())


def joined(value: JSON) -> str:
    """Return a multi-line string, which nbformat also allows as a list of lines, as one; what is no text is empty."""
    if isinstance(value, list):
        return "".join(line for line in value if isinstance(line, str))
    return value if isinstance(value, str) else ""


def shortened(text: str, limit: int | None) -> str:
    """Return the first `limit` characters of `text`, and how many there are more."""
    if limit is None or len(text) <= limit:
        return text
    return f"{text[:limit]}\n[… {len(text) - limit:,} more characters]"


def in_markdown(text: str) -> str:
    """Escape `text` so that it is text in Markdown, and nothing else; it has no line breaks that mean a new block."""
    return _AT_START.sub(_escaped_start, _SPECIAL.sub(_escaped, text))


def in_html_of_notebooks(text: str) -> str:
    """Escape `text` for HTML in Markdown or in a notebook, where some marks begin mathematics in any text."""
    return _MATHEMATICS.sub(_escaped, in_html(text))


def in_html(text: str) -> str:
    """Escape `text` for HTML, between tags and in quoted attributes."""
    return html.escape(text, quote=True)


def in_code_span(text: str) -> str:
    """Return a code span of `text` in Markdown."""
    ticks = "`" * (1 + max((len(run) for run in _TICKS.findall(text)), default=0))
    pad = " " if text[:1] in ("`", " ") or text[-1:] in ("`", " ") else ""
    return f"{ticks}{pad}{text.replace(chr(10), ' ')}{pad}{ticks}" if text.strip() else in_markdown(text)


def fenced(text: str, language: str) -> str:
    """Return `text` as a fenced block that no line of it can end."""
    longest = max(map(len, _TICKS.findall(text))) if "```" in text else 2
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text.removesuffix(chr(10))}\n{fence}\n"


def _escaped(found: re.Match[str]) -> str:
    """Escape a mark; one of mathematics gets an element of its own, as a backslash would not keep it from beginning."""
    return f"<span>&#{ord(found[0])};</span>" if found[0] in "$\\" else f"\\{found[0]}"


def _escaped_start(found: re.Match[str]) -> str:
    space, mark, number, after = found.groups()
    return f"{space}\\{mark}" if mark else f"{space}{number}\\{after}"
