"""Cutting texts: nothing is lost, nothing is longer than asked, and every chunk knows its place."""

from __future__ import annotations

import ast
import copy
import pickle
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rlm_kernel.toolkit
from rlm_kernel.toolkit import STRATEGIES, Chunk, chunk
from rlm_kernel.toolkit.boundaries import LADDER

PIECES = (
    "a",
    "b. ",
    "c! ",
    "\n",
    "\n\n",
    "\n \t\n",
    "\r\n",
    "\r",
    " ",
    "# h\n",
    "## h\n",
    "```\n",
    "~~~\n",
    "é",
    "🙂",
    "。",
    "\ud800",
)
texts = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=12))).map("".join)
strategies = st.sampled_from(STRATEGIES)


@st.composite
def sizes(draw: st.DrawFn) -> tuple[int, int]:
    """Draw a size and an overlap that goes with it."""
    size = draw(st.integers(1, 40))
    return size, draw(st.integers(0, size // 2))


@given(texts, strategies, sizes())
def test_chunks_cover_the_text_in_order(text: str, strategy: str, bounds: tuple[int, int]) -> None:
    """Each chunk is its place's text, of the size asked for, none is empty, and only the overlap comes twice."""
    size, overlap = bounds
    chunks = chunk(text, strategy, size, overlap)
    assert all(text[each.start : each.end] == each for each in chunks)
    assert all(0 < len(each) <= size for each in chunks)
    ends = [0, *(each.end for each in chunks)]
    assert [each.start for each in chunks] == [max(0, end - overlap) for end in ends[:-1]]
    assert ends == sorted(set(ends))
    assert ends[-1] == len(text)


@given(texts, strategies, sizes())
def test_what_fits_is_one_chunk(text: str, strategy: str, bounds: tuple[int, int]) -> None:
    """A text is cut where it has to be, and not otherwise."""
    assert (len(chunk(text, strategy, *bounds)) == 1) == (0 < len(text) <= bounds[0])


@given(texts, sizes())
def test_lines_are_cut_at_the_last_end_of_a_line_that_fits(text: str, bounds: tuple[int, int]) -> None:
    """A chunk of lines ends within a line only where the line itself is too long."""
    size, overlap = bounds
    line_ends = [
        at for at in range(1, len(text)) if text[at - 1] == "\n" or (text[at - 1] == "\r" and text[at] != "\n")
    ]
    before = 0
    for each in chunk(text, "lines", size, overlap)[:-1]:
        if fitting := [at for at in line_ends if before < at <= each.start + size]:
            assert each.end == max(fitting)
        before = each.end


@pytest.mark.parametrize(
    ("strategy", "size", "expected"),
    [
        ("characters", 4, ["One.", " Two", ".\n\n#", " H\nt", "hree", " fou", "r\n"]),
        ("words", 9, ["One. ", "Two.\n\n# ", "H\nthree ", "four\n"]),
        ("sentences", 12, ["One. Two.\n\n", "# H\nthree ", "four\n"]),
        ("lines", 12, ["One. Two.\n\n", "# H\n", "three four\n"]),
        ("paragraphs", 15, ["One. Two.\n\n", "# H\nthree four\n"]),
        ("paragraphs", 99, ["One. Two.\n\n# H\nthree four\n"]),
        ("markdown", 20, ["One. Two.\n\n", "# H\nthree four\n"]),
    ],
)
def test_each_strategy_cuts_at_its_own_boundaries(strategy: str, size: int, expected: list[str]) -> None:
    """The last boundary that fits is taken, and the next finer kind where there is none."""
    assert chunk("One. Two.\n\n# H\nthree four\n", strategy, size) == expected


def test_a_comment_in_fenced_code_is_no_heading() -> None:
    """Markdown is not cut within a block of code that a heading's mark stands in."""
    text = "# A\n\n```python\n# no heading\n```\n\n# B\nend of it all\n"
    assert chunk(text, "markdown", 40) == [text[: text.index("# B")], text[text.index("# B") :]]


@pytest.mark.parametrize(
    ("before", "headings"),
    [
        ("```code```\n# A\n", ["# A"]),
        ("```\n# no\n```python\n# no\n```\n# A\n", ["# A"]),
        ("````\n```\n# no\n````  \r\n# A\n", ["# A"]),
        ("~~~ a`b\n# no\n~~~\n# A\n", ["# A"]),
        ("```\n# no\n", []),
    ],
)
def test_only_what_is_a_fence_opens_or_ends_code(before: str, headings: list[str]) -> None:
    """Code within a line is no fence, and a fence with words after it ends none."""
    text = f"text\n{before}"
    assert [text[place : place + 3] for place in LADDER["markdown"](text, 0)] == headings


def test_sentences_of_scripts_without_spaces() -> None:
    """A full stop of Chinese or Japanese ends a sentence, with the bracket after it."""
    assert chunk("「はい。」いいえ。次", "sentences", 6) == ["「はい。」", "いいえ。次"]


def test_documents_are_cut_one_by_one() -> None:
    """A dict's and a list's texts each give chunks of their own, which name their source; an empty text gives none."""
    found = [(each.source, str(each), each.start) for each in chunk({"a": "xyz", "b": "", 3: "w"}, "characters", 2)]
    assert found == [("a", "xy", 0), ("a", "z", 2), (3, "w", 0)]
    assert [each.source for each in chunk(["one", "two"])] == [0, 1]
    assert chunk("one")[0].source is None
    assert chunk("") == chunk([]) == chunk({"a": ""}) == []


def test_a_chunk_is_a_str_that_can_be_copied() -> None:
    """Copies and pickles, as a process pool makes them, keep the place."""
    made = chunk("abcdef", "characters", 4, 1)[1]
    for same in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made)), Chunk("def", 3)):
        assert (same, same.start, same.end, same.source) == ("def", 3, 6, None)
        assert isinstance(same, str)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("a", "pages"), ValueError, "no strategy 'pages'; there are: markdown, paragraphs"),
        (("a", "lines", 0), ValueError, "size must be at least 1, not 0"),
        (("a", "lines", 10, 6), ValueError, "at most half of size, which is 5, not 6"),
        (("a", "lines", 10, -1), ValueError, "overlap must be at least 0"),
        (("a", "lines", 1.5), TypeError, "float"),
        ((5,), TypeError, "takes a str, or a dict or list of them, not int"),
        (([b"x"],), TypeError, "the one at 0 is of type bytes"),
        (({"k": None},), TypeError, "the one at 'k' is of type NoneType"),
    ],
)
def test_what_cannot_be_cut_is_refused(arguments: Any, error: type[Exception], message: str) -> None:
    """Each error names what is wrong and what would be right."""
    with pytest.raises(error, match=message):
        chunk(*arguments)


LONG = 100_000
EVIL = {
    "newlines": "\n" * LONG,
    "spaces": " " * LONG,
    "a line of spaces": "\n" + " " * LONG,
    "blank lines": "\n \t\r" * (LONG // 4),
    "full stops": "." * LONG,
    "quotes after a full stop": "." + "'" * LONG,
    "quoted full stops": ".'" * (LONG // 2),
    "full stops of Chinese": "。" * LONG,
    "hashes": "#" * LONG,
    "headings": "# \n" * (LONG // 3),
    "fences": "```\n" * (LONG // 4),
    "a long fence": "`" * LONG,
    "one word": "x" * LONG,
    "early boundaries": ("a\n\nb c. " + "d" * 900) * (LONG // 900),
}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("text", EVIL.values(), ids=EVIL)
def test_no_text_takes_more_than_linear_time(text: str, strategy: str) -> None:
    """What would take a careless pattern the square of the length takes no longer than any other text."""
    started = time.process_time()
    chunk(text, strategy, 1000, 500)
    assert time.process_time() - started < 3  # the square of 100,000 steps would be many minutes


def test_every_strategy_but_the_finest_is_a_kind_of_boundary() -> None:
    """The names of strategies and the ladder of boundaries agree."""
    assert (*LADDER, "characters") == STRATEGIES


def test_the_toolkit_needs_nothing_else() -> None:
    """It imports the standard library alone, so that it runs in the sandbox as it is."""
    assert {name.partition(".")[0] for name in _imports()} <= sys.stdlib_module_names


def _imports() -> set[str]:
    found: set[str] = set()
    for path in Path(rlm_kernel.toolkit.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module or "")
    return found
