"""The final answer as text in a reply: `FINAL(...)` or `FINAL_VAR(...)` that stands alone on its lines."""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass

_START = re.compile(r"^[ \t]*[*_]{0,3}(?P<name>FINAL|FINAL_VAR)\(", re.MULTILINE)
_END = re.compile(r"\)[*_]{0,3}\.?[ \t]*$", re.MULTILINE)
_END_ALONE = re.compile(r"^[ \t]*\)[*_]{0,3}\.?[ \t]*$", re.MULTILINE)
_LITERAL_PATTERN = r"""(?P<quote>\"{3}|'{3}|"|')(?P<inside>(?:\\.|(?!(?P=quote))[^\\])*)(?P=quote)"""
_LITERAL = re.compile(_LITERAL_PATTERN, re.DOTALL)
_LITERAL_TO_END = re.compile(rf"\s*{_LITERAL_PATTERN}\s*(?=\))", re.DOTALL)
_PAREN = re.compile(r"[()]")
_NAME_QUOTES = "`\"' "
_F_STRING = re.compile(r"[fF][rR]?[\"']")
_MAX_STARTS = 100
"""How many finals are looked at; each may cost a walk to the reply's end."""


@dataclass(frozen=True, slots=True)
class TextFinal:
    """A textual final: its `text`, or the `code` of the cell that gives it. It covers `start` to `end` of the reply."""

    text: str | None
    code: str | None
    start: int
    end: int


def find_final(text: str, prose: str) -> TextFinal | None:
    """Return the last textual final of `text`.

    `prose` is `text` with its fenced blocks blanked out, of the same length: a final neither begins nor ends inside a
    block, but may hold one. It begins a line and its closing parenthesis ends one, so a mention in a sentence or in
    inline code is none. Of a reply with absurdly many only the first are read.
    """
    found = None
    position = 0
    for _ in range(_MAX_STARTS):
        start = _START.search(prose, position)
        if start is None:
            break
        position = start.end()
        end = _closing(prose, start.end())
        if end is not None:
            code, plain = _argument(start["name"], text[start.end() : end].strip())
            found = TextFinal(plain, code, start.start(), end + 1)
            position = end
    return found


def _closing(prose: str, start: int) -> int | None:
    """Return where the parenthesis is that closes the one before `start`, if it ends a line."""
    literal = _LITERAL_TO_END.match(prose, start)
    if literal and _END.match(prose, literal.end()):
        return literal.end()
    depth = 1
    for paren in _PAREN.finditer(prose, start):
        depth += 1 if paren[0] == "(" else -1
        if not depth:
            if _END.match(prose, paren.start()):
                return paren.start()
            break
    # Parentheses in an answer need not balance: "1) red 2) blue". Then its own line, or a line of its own, ends it.
    line_end = prose.find("\n", start)
    line_end = len(prose) if line_end < 0 else line_end
    if prose[start:line_end].strip():
        last = prose.rfind(")", start, line_end)
        return last if last >= 0 and _END.match(prose, last) else None
    alone = _END_ALONE.search(prose, line_end)
    return None if alone is None else prose.index(")", alone.start())


def _argument(name: str, argument: str) -> tuple[str | None, str | None]:
    """Return the cell that resolves the argument, or else its plain text."""
    if name == "FINAL_VAR":
        return f"FINAL_VAR({argument.strip(_NAME_QUOTES)!r})", None
    if _F_STRING.match(argument):
        return f"FINAL({argument})", None
    return None, _unquoted(argument)


def _unquoted(argument: str) -> str:
    literal = _LITERAL.fullmatch(argument)
    if literal is None:
        return argument
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes such as "\d", which keep their backslash
            return str(ast.literal_eval(argument))  # one string literal, so nothing nests
    except (SyntaxError, ValueError):
        return literal["inside"]
