"""The sets in a text, each with its elements in order."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MOST_CHARACTERS = 500_000
"""A longer text is left as it is, since every bracket of it is looked at."""
_DEEPEST = 20
_MARKS = re.compile(r"""[{}()\[\],:'"]""")
_CLOSES = {"{": "}", "(": ")", "[": "]"}
_STRINGS = {quote: re.compile(rf"(?:[^{quote}\\\n]|\\.)*+{quote}") for quote in "'\""}


@dataclass(slots=True)
class _Frame:
    """An open bracket; `since` is where the text begins that is not yet in `pieces` of its last element."""

    opened: str
    begun: int
    since: int
    is_set: bool
    pieces: list[str] = field(default_factory=list)
    elements: list[str] = field(default_factory=list)

    def end_element(self, text: str, end: int) -> None:
        """Take what stands before `end` as the last of an element."""
        self.elements.append("".join([*self.pieces, text[self.since : end]]))
        self.pieces.clear()
        self.since = end + 1

    def written(self) -> str:
        """Return it as it is to be written, its closing bracket too."""
        if self.is_set and len(self.elements) > 1:
            return "{" + ", ".join(sorted(element.strip() for element in self.elements)) + "}"
        return self.opened + ",".join(self.elements) + _CLOSES[self.opened]


class _Sets:
    """One pass over a text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.done: list[str] = []
        self.unsorted: list[str] = []
        self._copied = 0
        self._frames: list[_Frame] = []

    def order(self) -> str:
        """Return the text with its sets in order."""
        at = 0
        while found := _MARKS.search(self.text, at):
            at = self._take(found[0], found.start())
        return "".join([*self.done, self.text[self._copied :]])

    def _take(self, mark: str, start: int) -> int:
        """Take one mark, and return where to go on."""
        if mark in _CLOSES:
            self._open(mark, start)
        elif not self._frames:
            pass
        elif mark in _STRINGS:
            return self._skip_string(mark, start + 1)
        elif mark == ":":
            self._frames[-1].is_set = False
        elif mark == ",":
            self._frames[-1].end_element(self.text, start)
        elif _CLOSES[self._frames[-1].opened] == mark:
            self._close(start)
        else:
            self._frames.clear()
        return start + 1

    def _open(self, mark: str, start: int) -> None:
        if len(self._frames) == _DEEPEST:
            self._frames.clear()
        elif self._frames or mark == "{":
            self._frames.append(_Frame(mark, start, start + 1, mark == "{"))

    def _skip_string(self, quote: str, start: int) -> int:
        if string := _STRINGS[quote].match(self.text, start):
            return string.end()
        # The rest of the line is not looked into: each of its quotes could make us read all of it once more.
        self._frames.clear()
        end = self.text.find("\n", start)
        return end if end >= 0 else len(self.text)

    def _close(self, at: int) -> None:
        frame = self._frames.pop()
        frame.end_element(self.text, at)
        written = frame.written()
        if self._frames:
            outer = self._frames[-1]
            outer.pieces += (self.text[outer.since : frame.begun], written)
            outer.since = at + 1
            return
        self.done += (self.text[self._copied : frame.begun], written)
        self._copied = at + 1
        before = self.text[frame.begun : at + 1]
        if written != before:
            self.unsorted.append(before)


def in_set_order(text: str) -> tuple[str, list[str]]:
    """Return `text` with the elements of each `{…}` that has commas and no colons sorted, and those that were not.

    What is no literal of Python's (an open quote, another closing bracket, more than 20 brackets deep) stays as it is.
    """
    if len(text) > MOST_CHARACTERS or "{" not in text:
        return text, []
    sets = _Sets(text)
    return sets.order(), sets.unsorted
