"""A table of many rows, each on one line and written as soon as widths are known."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import click
from rich.cells import cell_len, set_cell_size

WIDTH = 160
"""Columns where no terminal says how many it has."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column. It goes first where the terminal is narrow if its `rank` is the highest; one of rank 0 stays.

    `flexible`: it takes what room there is, `least` cells at any rate.
    """

    title: str
    rank: int = 0
    right: bool = False
    flexible: bool = False
    least: int = 24


def write_columns(columns: Sequence[Column], rows: Iterable[Sequence[str]], width: int | None = None) -> None:
    """Write a table to standard output, as wide as its terminal; a column without any text is left out.

    Cells are text that was cleaned, each on one line.
    """
    if width is None:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH
    kept = list(rows)
    if not kept:
        return
    widths = [max(map(cell_len, cells)) for cells in zip(*kept, strict=True)]
    shown = _fitting(columns, widths, width)
    for cells in ([column.title for column in columns], *kept):
        line = "  ".join(_padded(cells[index], shown[index], columns[index]) for index in shown)
        click.echo(line.rstrip())


def _fitting(columns: Sequence[Column], widths: Sequence[int], width: int) -> dict[int, int]:
    """Return the widths of the columns that are shown, by their places."""
    shown = {
        index: column.least if column.flexible else max(widths[index], len(column.title))
        for index, column in enumerate(columns)
        if widths[index]
    }
    for index in sorted(shown, key=lambda index: -columns[index].rank):
        if sum(shown.values()) + 2 * (len(shown) - 1) <= width or not columns[index].rank:
            break
        del shown[index]
    room = width - sum(shown.values()) - 2 * (len(shown) - 1)
    for index in shown:
        if columns[index].flexible and room > 0:
            shown[index] += room
    return shown


def _padded(text: str, width: int, column: Column) -> str:
    length = cell_len(text)
    if length > width:
        return f"{set_cell_size(text, width - 1)}…"
    return " " * (width - length) + text if column.right else text + " " * (width - length)
