"""Where a text may be cut: for each kind of boundary an iterator over its places, in one pass."""

import re
from collections.abc import Callable, Iterator

# No pattern may look at a character more than a few times, whatever the text: runs are possessive, and a match can
# only begin where the run before it ends.
_PARAGRAPH = re.compile(r"\n(?:[ \t\r]*+\n)++")
_LINE = re.compile(r"\r\n|\n|\r")
_SENTENCE = re.compile(
    "(?<=[.!?\N{HORIZONTAL ELLIPSIS}])"
    "[\"'\N{RIGHT DOUBLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK})\\]]*+\\s++"
    "|(?<=[\N{IDEOGRAPHIC FULL STOP}\N{FULLWIDTH EXCLAMATION MARK}\N{FULLWIDTH QUESTION MARK}])"
    "[\N{RIGHT CORNER BRACKET}\N{RIGHT WHITE CORNER BRACKET}\N{FULLWIDTH RIGHT PARENTHESIS}]*+\\s*+"
)
_WORD = re.compile(r"\s++")
_HEADING_OR_FENCE = re.compile(
    r"^ {0,3}(?:(#{1,6})(?=[ \t\r\n])|(`{3,}+(?![^`\n]*+`)|~{3,}+)([ \t\r]*+$)?)", re.MULTILINE
)
"""A heading; or a fence, and whether it stands alone in its line, as one that ends has to."""


def _ends(pattern: re.Pattern[str]) -> Callable[[str, int], Iterator[int]]:
    return lambda text, start: (match.end() for match in pattern.finditer(text, start))


def _headings(text: str, start: int) -> Iterator[int]:
    """Yield where headings of Markdown begin, but not in fenced code; it reads from the beginning of the text."""
    fence = ""
    for match in _HEADING_OR_FENCE.finditer(text):
        mark = match[2]
        if not mark:
            if not fence and match.start() > start:
                yield match.start()
        elif not fence:
            fence = mark
        elif mark.startswith(fence) and match[3] is not None:
            fence = ""


LADDER: dict[str, Callable[[str, int], Iterator[int]]] = {
    "markdown": _headings,
    "paragraphs": _ends(_PARAGRAPH),
    "lines": _ends(_LINE),
    "sentences": _ends(_SENTENCE),
    "words": _ends(_WORD),
}
"""Kinds of boundaries, coarse to fine: each is called with a text and a place, and yields the places after that."""


class Boundaries:
    """The boundaries of one kind in `text`, asked for from its beginning to its end."""

    def __init__(self, kind: str, text: str) -> None:
        self._kind = LADDER[kind]
        self._text = text
        self._places: Iterator[int] | None = None
        self._last = self._next = 0

    def last(self, after: int, limit: int) -> int | None:
        """Return the last boundary in `after < place <= limit`, if there is one; neither may ever go back."""
        if self._places is None:
            self._places = self._kind(self._text, after)
        while self._next <= limit:
            self._last = self._next
            self._next = next(self._places, len(self._text) + 1)
        return self._last if self._last > after else None
