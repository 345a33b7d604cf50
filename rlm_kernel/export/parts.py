"""What a document is made of, whatever its format: a run is told as a stream of these, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlm_kernel.export.shown import Shown


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading; 1 is the document's own."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Words:
    """A paragraph in our words, with what they quote; `alarm` is what a reader must not miss."""

    text: str
    alarm: bool = False


@dataclass(frozen=True, slots=True)
class Prose:
    """What a model wrote for people, in Markdown."""

    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """Text that is shown as it is, line by line."""

    title: str
    text: str
    language: str = "text"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of plain text."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Open:
    """What follows is folded away below `summary`, up to its `Close`."""

    summary: str


@dataclass(frozen=True, slots=True)
class Close:
    """Ends what the last `Open` began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeCell:
    """A cell with its outputs; `started` and `finished` are UTC in seconds. `record` is the number of its beginning."""

    number: int
    turn: int
    record: int
    code: str
    started: float
    finished: float | None = None
    seconds: float | None = None
    status: str | None = None
    execution_count: int | None = None
    outputs: Sequence[Shown] = ()


Part = Heading | Words | Prose | Block | Table | Open | Close | CodeCell
