"""A difference between two texts that people can read: a few lines of each, whatever the texts are."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

MOST_LINES = 120
"""Lines of each text that are looked at, from the first that differs."""
LONGEST_LINE = 300
_SHOWN = 40
_WINDOW = 64 * 1024
_CONTEXT = 2
_MARKS = (0x200E, 0x200F, 0x061C, 0x2028, 0x2029, 0xFEFF, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_VISIBLE = {code: chr(code).encode("unicode_escape").decode() for code in (*range(0x20), *range(0x7F, 0xA0), *_MARKS)}
del _VISIBLE[0x09]


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs, such as "stdout": how it was and how it is."""

    what: str
    then: str
    now: str


def readable(difference: Difference) -> str:
    """Return a unified diff of at most some 40 lines, control characters written out."""
    then, now = _part(difference.then, difference.now)
    lines = list(
        difflib.unified_diff(
            then, now, f"{difference.what}, recorded", f"{difference.what}, now", lineterm="", n=_CONTEXT
        )
    )
    if len(lines) > _SHOWN:
        lines = [*lines[:_SHOWN], f"… {len(lines) - _SHOWN} more lines"]
    return "\n".join(line.translate(_VISIBLE) for line in lines)


def trimmed(then: str, now: str) -> tuple[str, str]:
    """Return both without the lines that they begin and end with in common."""
    begin = _line_start(then, common_start(then, now))
    then, now = then[begin:], now[begin:]
    end = common_start(then[::-1], now[::-1])
    if end:
        newline = then.find("\n", len(then) - end)
        end = len(then) - newline - 1 if newline >= 0 else 0
    return (then[: len(then) - end], now[: len(now) - end]) if end else (then, now)


def common_start(one: str, other: str) -> int:
    """Return how many characters both begin with; the texts are compared in halves, never one by one."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _part(then: str, now: str) -> tuple[list[str], list[str]]:
    """Return the lines around the first difference, of each text, long ones cut where they differ."""
    first = common_start(then, now)
    begin = first
    for _ in range(_CONTEXT + 1):
        begin = max(_line_start(then, begin - 1), begin - _WINDOW // 4, 0)
    left, right = _lines(then[begin : begin + _WINDOW]), _lines(now[begin : begin + _WINDOW])
    for index, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other and max(len(one), len(other)) > LONGEST_LINE:
            at = max(0, common_start(one, other) - LONGEST_LINE // 3)
            left[index], right[index] = ("…" * (at > 0) + line[at:] for line in (one, other))
    return [_cut(line) for line in left], [_cut(line) for line in right]


def _lines(text: str) -> list[str]:
    return text.split("\n", MOST_LINES)[:MOST_LINES]


def _cut(line: str) -> str:
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}… {len(line) - LONGEST_LINE} more characters"


def _line_start(text: str, at: int) -> int:
    return text.rfind("\n", 0, max(at, 0)) + 1
