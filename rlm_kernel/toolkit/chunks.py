"""`chunk`: cuts a text into pieces along its own structure, each of which knows where it stood."""

from collections.abc import Iterator, Mapping
from operator import index
from typing import Any, Literal, get_args

from .boundaries import Boundaries

Strategy = Literal["markdown", "paragraphs", "lines", "sentences", "words", "characters"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
"""Coarse to fine, as in `LADDER`."""
DEFAULT_STRATEGY: Strategy = "paragraphs"
DEFAULT_SIZE = 100_000


class Chunk(str):
    """A piece of a text, which is the text's `[start:end]`; `source` is its document's key or number, if it has one."""

    __slots__ = ("end", "source", "start")
    start: int
    end: int
    source: Any

    def __new__(cls, text: str, start: int = 0, source: Any = None) -> "Chunk":
        """Make a chunk of `text`, which stood at `start`."""
        made = super().__new__(cls, text)
        made.start, made.end, made.source = start, start + len(text), source
        return made

    def __getnewargs__(self) -> tuple[str, int, Any]:  # type: ignore[override]
        return str(self), self.start, self.source


def chunk(
    text: str | Mapping[Any, str] | list[str] | tuple[str, ...],
    strategy: str | None = None,
    size: int = DEFAULT_SIZE,
    overlap: int = 0,
) -> list[Chunk]:
    """Cut `text` into chunks of at most `size` characters, in order, and return them as `str` with `start` and `end`.

    `strategy` says where to cut: at "markdown" headings, between "paragraphs", "lines", "sentences" or "words", or
    after so many "characters". As much as fits goes into a chunk. Where nothing of a kind fits, the next finer one is
    taken. Each chunk but the first repeats the `overlap` characters before it. Of a dict or list every text is
    cut by itself, and `source` is its key or number. Raise `TypeError` or `ValueError`.
    """
    chosen, size, overlap = checked(strategy or DEFAULT_STRATEGY, size, overlap)
    return [
        Chunk(document[start:end], start, source)
        for source, document in _documents(text)
        for start, end in _spans(document, chosen, size, overlap)
    ]


def checked(strategy: str, size: int, overlap: int) -> tuple[Strategy, int, int]:
    """Return the arguments of `chunk`. Raise `TypeError` or `ValueError` for those that can't be."""
    if strategy not in STRATEGIES:
        raise ValueError(f"there is no strategy {str(strategy)[:100]!r}; there are: {', '.join(STRATEGIES)}")
    size, overlap = index(size), index(overlap)
    if size < 1:
        raise ValueError(f"size must be at least 1, not {size}")
    if not 0 <= overlap <= size // 2:
        raise ValueError(f"overlap must be at least 0 and at most half of size, which is {size // 2}, not {overlap}")
    return strategy, size, overlap


def _documents(text: Any) -> Iterator[tuple[Any, str]]:
    if isinstance(text, str):
        yield None, text
        return
    if not isinstance(text, (Mapping, list, tuple)):
        raise TypeError(f"chunk() takes a str, or a dict or list of them, not {type(text).__name__}")
    for key, document in text.items() if isinstance(text, Mapping) else enumerate(text):
        if not isinstance(document, str):
            kind = type(document).__name__
            raise TypeError(f"chunk() takes texts, and the one at {key!r} is of type {kind}: make it a str first")
        yield key, document


def _spans(text: str, strategy: Strategy, size: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Yield where each chunk starts and ends. Every kind of boundary is gone through once at most."""
    rungs = [Boundaries(kind, text) for kind in STRATEGIES[STRATEGIES.index(strategy) : -1]]
    start = end = 0
    while end < len(text):
        limit = start + size
        if limit >= len(text):
            yield start, len(text)
            return
        found = (rung.last(end, limit) for rung in rungs)
        end = next((place for place in found if place is not None), limit)
        yield start, end
        start = max(0, end - overlap)
