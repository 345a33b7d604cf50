"""The page about replays, held against the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from rlm_kernel.cli.exits import DIFFERENT
from rlm_kernel.recording.compare.normalise import ORDER_RULES, RULES
from rlm_kernel.recording.compare.runs import Outcome
from rlm_kernel.recording.compare.words import ENTROPY, PARALLEL, UNPINNED

PAGE = (Path(__file__).parents[3] / "docs" / "replay.md").read_text(encoding="utf-8")


def table(heading: str) -> list[tuple[str, str]]:
    """The rows of the table with this head."""
    rows = PAGE.partition(f"| {heading} |")[2].partition("\n\n")[0]
    return [(first, second) for first, second in re.findall(r"^\| (.*?) \| (.*) \|$", rows, re.MULTILINE)]


def words(cell: str) -> tuple[str, ...]:
    """What stands in a cell as code."""
    return tuple(re.findall(r"`([^`]+)`", cell))


def test_the_page_lists_exactly_the_rules() -> None:
    """With what each takes out, in the order in which they are applied."""
    assert table("Rule | What it takes out") == [(f"`{rule.name}`", rule.what) for rule in RULES]
    assert table("Rule | What may be otherwise") == [(f"`{name}`", what) for name, what in ORDER_RULES.items()]


def test_the_page_lists_exactly_the_words() -> None:
    """Those of what is not pinned, and those of threads."""
    *pinned, unpinned = table("It reads | Words")
    assert {what: words(cell) for what, cell in pinned} == ENTROPY
    assert words(unpinned[1]) == UNPINNED
    threads = PAGE.partition("Threads and tasks are spoken of by ")[2].partition(".\n")[0]
    assert words(threads) == PARALLEL


def test_the_page_has_every_outcome_and_the_status() -> None:
    """Each word that a report has for a cell, and the exit status of a difference."""
    assert [words(word)[0] for word, _ in table("Word | Meaning")] == [*get_args(Outcome)]
    assert str(DIFFERENT) in dict(table("Exit status | Meaning"))
