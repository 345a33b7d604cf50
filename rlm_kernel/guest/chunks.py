"""`chunk` for cells: the toolkit's, with the session's own strategy, and told to the host."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlm_kernel.toolkit import Chunk

CHUNKED_MIME = "application/vnd.rlm-kernel.chunked+json"
MOST_TOLD = 100
"""Calls of a cell that the host is told of."""


class _Session:
    strategy: str | None = None
    told = 0


def set_strategy(strategy: str | None) -> None:
    """Cut as `strategy` says where a cell does not."""
    _Session.strategy = strategy


def start_cell() -> None:
    """Count from the beginning."""
    _Session.told = 0


def chunk(text: Any, strategy: str | None = None, size: int = 100_000, overlap: int = 0) -> "list[Chunk]":
    """Cut a text, or each text of a dict or list, into chunks of at most `size` characters, along its own structure.

    `strategy` says where to cut: "markdown" (headings), "paragraphs", "lines", "sentences", "words" or "characters".
    As much as fits goes into a chunk; each but the first repeats the `overlap` characters before it. A chunk is a `str`
    with `start` and `end`, its place in the text, and `source`, the key or number of its text in a dict or list.
    """
    from rlm_toolkit import DEFAULT_STRATEGY, chunk as cut  # type: ignore[import-not-found]  # noqa: I001, PLC0415

    strategy = strategy or _Session.strategy or DEFAULT_STRATEGY
    made: list[Chunk] = cut(text, strategy, size, overlap)
    if _Session.told < MOST_TOLD:
        _Session.told += 1
        _tell(
            {
                "strategy": strategy,
                "size": min(int(size), 2**53),
                "overlap": min(int(overlap), 2**53),
                **_measured(made),
            }
        )
    return made


def _measured(made: "list[Chunk]") -> dict[str, int]:
    lengths = [len(each) for each in made] or [0]
    return {"chunks": len(made), "characters": sum(lengths), "shortest": min(lengths), "longest": max(lengths)}


def _tell(report: dict[str, Any]) -> None:
    from IPython.core.getipython import get_ipython  # noqa: PLC0415  it loads while the link does

    if (shell := get_ipython()) is not None:
        shell.display_pub.publish({CHUNKED_MIME: report})
