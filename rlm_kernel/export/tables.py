"""Tables from a guest's HTML, such as those of data frames, written anew: known tags without attributes, and text."""

from __future__ import annotations

import html
import re

from rlm_kernel.export.text import in_html_of_notebooks, seen

MAX_CHARACTERS = 1_000_000
_TOKEN = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)(?:[\s/][^<>]*)?>|<[!?][^<>]*>|[^<]+|<")
_TAGS = frozenset(
    ["table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td", "p", "b", "strong", "i", "em", "code"]
)
_UNSHOWN = frozenset(["style", "script", "title", "template", "noscript", "iframe", "object", "svg", "math", "head"])
_MAX_OPEN = 50


def plain_table(source: str) -> str | None:
    """Return what a table in HTML shows, on one line; None where there is none, or it is too long."""
    if len(source) > MAX_CHARACTERS or "<table" not in source.lower():
        return None
    written: list[str] = []
    opened: list[str] = []
    unshown = ""
    for token in _TOKEN.finditer(source):
        closing, tag = token[1], (token[2] or "").lower()
        if unshown:
            unshown = "" if closing and tag == unshown else unshown
        elif not tag:
            if not token[0].startswith(("<!", "<?")):
                written.append(_text(token[0]))
        elif tag in _UNSHOWN:
            unshown = "" if closing else tag
        elif tag == "br":
            written.append("<br>")
        elif tag in _TAGS:
            _write_tag(tag, written, opened, closing=bool(closing))
    written += [f"</{tag}>" for tag in reversed(opened)]
    return "".join(written)


def _write_tag(tag: str, written: list[str], opened: list[str], *, closing: bool) -> None:
    if not closing:
        if len(opened) < _MAX_OPEN:
            opened.append(tag)
            written.append(f"<{tag}>")
    elif tag in opened:
        while (last := opened.pop()) != tag:
            written.append(f"</{last}>")
        written.append(f"</{tag}>")


def _text(text: str) -> str:
    """Return text on one line, with nothing that Markdown or mathematics around it would take for its own."""
    text = " ".join(seen(html.unescape(text)).split()) or " "
    return "".join(f"&#{ord(mark)};" if mark in "`*_[]~" else mark for mark in in_html_of_notebooks(text))
