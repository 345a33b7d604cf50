"""What a model's reply asks for: cells to run, and a final answer as text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rlm_kernel.controller.fences import Fence, find_fences
from rlm_kernel.controller.final import TextFinal, find_final


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply's parts. `torn`: it was cut off inside a block, which is therefore not among `cells`."""

    cells: tuple[str, ...]
    final: TextFinal | None
    torn: bool


def read_reply(text: str, finish_reason: str) -> Reply:
    """Take a reply apart.

    A block that the reply leaves open is run if the model ended the reply itself and so only forgot the closing
    fence; in a reply that was cut off it is not, and neither is a final counted. Blocks inside a textual final belong
    to the answer and are no cells.
    """
    text = re.sub(r"\r\n?", "\n", text)
    fences = find_fences(text)
    starts = _line_starts(text)
    torn = bool(fences) and not fences[-1].closed and finish_reason != "stop"
    final = find_final(text, _blanked(text, fences, starts))
    if torn:
        fences, final = fences[:-1], None
    cells = tuple(
        block.code
        for block in fences
        if block.is_python and block.code.strip() and not (final and final.start < starts[block.first] < final.end)
    )
    return Reply(cells, final, torn)


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
