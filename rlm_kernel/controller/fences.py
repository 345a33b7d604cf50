"""Fenced blocks in a reply, by CommonMark's rules, with care for fences inside a cell's own strings."""

from __future__ import annotations

import io
import re
import tokenize
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock, fence

_PYTHON = re.compile(r"\s*\{?\.?(?:repl|i?python3?|py|tool_code)(?![\w-])", re.IGNORECASE)
_END_MARK = re.compile(r"<\|[^|<>\n]{1,40}\|>\Z")
_MAX_EXTENSIONS = 20
"""How many closing lines one block may pass over; each costs a walk through its tokens."""


@dataclass(frozen=True, slots=True)
class Fence:
    """One fenced block on the lines `first` up to, not including, `end`; `language` is its mark's first word."""

    is_python: bool
    language: str
    code: str
    first: int
    end: int
    closed: bool


def find_fences(text: str) -> list[Fence]:
    """Return the fenced blocks of `text`, whose lines end in a plain newline, in order.

    A line that would close a Python block inside a triple-quoted string does not close it, if a later one does so
    outside of any string.
    """
    lines = text.split("\n")
    found = []
    for token in _MARKDOWN.parse(text):
        if token.type == "fence" and token.map:
            first, end = token.map
            closed = end - 1 > first and _closes(lines[end - 1], token.markup)
            code = token.content
            if not closed and (before := _before_fence(code, token.markup)) is not None:
                code, closed = before, True
            language = (token.info.split() or [""])[0].lower()
            found.append(Fence(bool(_PYTHON.match(token.info)), language, code, first, end, closed))
    return found


def _rule(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Apply CommonMark's rule, then move a Python block's end out of an open string."""
    if not fence(state, start, end, silent):
        return False
    if silent or not _PYTHON.match(state.tokens[-1].info):
        return True
    token = state.tokens[-1]
    content, closing, tries = token.content, state.line - 1, 0
    while _ends_in_string(content):
        closing = _next_closing(state, closing + 1, end, token.markup)
        tries += 1
        if closing == end or tries > _MAX_EXTENSIONS:
            return True
        content = state.getLines(start + 1, closing, state.sCount[start], True)
    if tries:
        token.content, token.map, state.line = content, [start, closing + 1], closing + 1
    return True


def _skip_line(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    state.line = start + 1
    return True


def _next_closing(state: StateBlock, line: int, end: int, markup: str) -> int:
    while line < end and not _closes(state.src[state.bMarks[line] : state.eMarks[line]], markup):
        line += 1
    return line


def _closes(line: str, markup: str) -> bool:
    line = line.strip(" \t")
    return len(line) >= len(markup) and not line.strip(markup[0])


def _before_fence(code: str, markup: str) -> str | None:
    """Return `code` without the fence that it ends with, on a line with code or with a model's mark for the end."""
    end = _END_MARK.sub("", code.rstrip()).rstrip()
    before = end.rstrip(markup[0])
    return before.rstrip() if len(end) - len(before) >= len(markup) else None


def _ends_in_string(code: str) -> bool:
    """Tell whether `code` ends inside a triple-quoted string. It is tokenized, never parsed or compiled, here."""
    try:
        for _ in tokenize.generate_tokens(io.StringIO(code).readline):
            pass
    except tokenize.TokenError as error:
        message = str(error.args[0])
        return "multi-line string" in message or "triple-quoted" in message
    except SyntaxError:
        return False
    return False


# Of CommonMark only fences, looked for on every line: lists, quotes, raw HTML, indented code and the continuation of
# paragraphs would hide or end a block that the model meant as a cell.
_MARKDOWN = MarkdownIt("zero").enable("fence")
_MARKDOWN.block.ruler.at("fence", _rule)
_MARKDOWN.block.ruler.at("paragraph", _skip_line)
