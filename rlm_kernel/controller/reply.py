"""What a model's reply asks for: cells to run, and a final answer as text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from rlm_kernel.controller.fences import Fence, find_fences
from rlm_kernel.controller.final import TextFinal, find_final

_THOUGHT = re.compile(r"\s*<(?P<tag>think|thinking|thought|reasoning)>.*?(?:</(?P=tag)>|\Z)", re.DOTALL)
_ANNOUNCED = re.compile(
    r"^[ \t*_#>]*(?:(?:cell |execution |the |actual |expected )?outputs?(?: of (?:your )?cell[^\n:]*)?"
    r"|stdout|observation)[ \t*_]*:",
    re.IGNORECASE | re.MULTILINE,
)
_OUTPUT = frozenset({"", "output", "stdout", "console", "text", "txt", "plaintext"})
_THOUGHT_END = re.compile(r"^[ \t]*</(?:think|thinking|thought|reasoning)>[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Cell:
    """Code that a reply wants run: in a fence, or as the call `call` of a tool, whose `problem` is why it can't be."""

    code: str
    call: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply's parts. `torn`: it was cut off inside a block, which is therefore not among `cells`.

    `invented`: it went on after a cell with output of its own making; what followed is left out. `others`: it held
    blocks that are no cells.
    """

    cells: tuple[str, ...]
    final: TextFinal | None
    torn: bool
    invented: bool = False
    others: bool = False


def without_thinking(text: str) -> str:
    """Return a reply without the thinking that some models write into it, in tags before what they say.

    The opening tag may be part of the model's prompt and so missing; then the closing one stands on a line of its own.
    A reply that never closes it is thinking alone.
    """
    if thought := _THOUGHT.match(text):
        return text[thought.end() :].lstrip()
    if end := _THOUGHT_END.search(text):
        fences = find_fences(text)
        line = text.count("\n", 0, end.start())
        if not any(fence.first < line < fence.end and fence.is_python for fence in fences):
            return text[end.end() :].lstrip()
    return text


def read_reply(text: str, finish_reason: str) -> Reply:
    """Take a reply apart.

    A block that the reply leaves open is run if the model ended the reply itself and so only forgot the closing
    fence; in a reply that was cut off it is not, and neither is a final counted. Blocks inside a textual final belong
    to the answer and are no cells.
    """
    text = re.sub(r"\r\n?", "\n", text)
    fences = find_fences(text)
    starts = _line_starts(text)
    invented = _invented(text, fences, starts)
    if invented is not None:
        text = text[:invented]
        fences = [block for block in fences if starts[block.first] < invented]
        starts = _line_starts(text)
    torn = bool(fences) and not fences[-1].closed and finish_reason != "stop" and invented is None
    final = find_final(text, _blanked(text, fences, starts))
    if torn:
        fences, final = fences[:-1], None
    cells = tuple(
        block.code
        for block in fences
        if block.is_python and block.code.strip() and not (final and final.start < starts[block.first] < final.end)
    )
    return Reply(cells, final, torn, invented is not None, any(not block.is_python for block in fences))


def _invented(text: str, fences: list[Fence], starts: list[int]) -> int | None:
    """Return where made-up output begins: words that announce it after a cell, or a block of it right behind one."""
    cell = next((block for block in fences if block.is_python and block.code.strip()), None)
    if cell is None:
        return None
    found = []
    if announced := _ANNOUNCED.search(_blanked(text, fences, starts), starts[min(cell.end, len(starts) - 1)]):
        found.append(announced.start())
    for block, behind in pairwise(fences):
        between = text[starts[min(block.end, len(starts) - 1)] : starts[behind.first]]
        if block.is_python and block.code.strip() and behind.language in _OUTPUT and not between.strip():
            found.append(starts[behind.first])
    return min(found, default=None)


def _line_starts(text: str) -> list[int]:
    return [0, *(match.end() for match in re.finditer("\n", text)), len(text)]


def _blanked(text: str, fences: list[Fence], starts: list[int]) -> str:
    """Return `text` with its fenced blocks as spaces, its lines and its length unchanged."""
    parts = []
    position = 0
    for block in fences:
        first, end = starts[block.first], starts[min(block.end, len(starts) - 1)]
        parts += [text[position:first], re.sub(r"[^\n]", " ", text[first:end])]
        position = end
    return "".join([*parts, text[position:]])
