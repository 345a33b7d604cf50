"""A recorded cell and the same cell as it ran again."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from rlm_kernel.events import CellOutput, CellOutputCleared
from rlm_kernel.recording.compare.cells import Circumstances, Compared, compare_cells, compare_texts
from rlm_kernel.recording.compare.difference import Difference, readable, trimmed
from rlm_kernel.recording.compare.ran import Ran, folded

PLAIN = Circumstances()


def stream(text: str, name: str = "stdout") -> dict[str, Any]:
    """An output of text."""
    return {"output_type": "stream", "name": name, "text": text}


def shown(data: dict[str, Any], count: int | None = None) -> dict[str, Any]:
    """A display, or with `count` a result."""
    more: dict[str, Any] = {} if count is None else {"execution_count": count}
    kind = "display_data" if count is None else "execute_result"
    return {"output_type": kind, "data": data, "metadata": {}, **more}


def ran(*outputs: dict[str, Any], **fields: Any) -> Ran:
    """A cell that showed `outputs`."""
    return Ran(**{"cell": 1, "turn": 1, "code": "x", "status": "ok", "outputs": outputs, **fields})


def said(found: Compared) -> tuple[str, list[str], list[str]]:
    """What most tests look at."""
    return found.verdict, found.rules, found.where


def test_equal_cells_are_identical() -> None:
    """Whatever they read, and whatever rules there are."""
    one = ran(stream("<a at 0x7f00>"), shown({"text/html": "<b>", "application/json": {"a": [1]}}, 3))
    assert said(compare_cells(one, one, Circumstances(reads=["uuid4"]))) == ("identical", [], [])


def test_rules_that_struck_are_named() -> None:
    """Each of them, of every output and form, and no other."""
    one = ran(stream("<a at 0x7f00>\n2 ms"), shown({"text/plain": "{1, 2}", "text/html": "0x1"}, 1))
    two = ran(stream("<a at 0x7f01>\n2 ms"), shown({"text/plain": "{2, 1}", "text/html": "0x1"}, 2))
    assert said(compare_cells(one, two, PLAIN)) == ("normalised", ["addresses", "execution counts", "set order"], [])


@pytest.mark.parametrize(
    ("then", "now", "where"),
    [
        (ran(stream("a\nb\n")), ran(stream("a\nc\n")), "stdout"),
        (ran(stream("a")), ran(stream("a", "stderr")), "stdout"),
        (ran(), ran(shown({"text/html": "a"})), "display 1, text/html"),
        (ran(shown({"a/json": {"x": [1, 2]}})), ran(shown({"a/json": {"x": [2, 1]}})), "display 1, a/json"),
        (ran(shown({"text/html": "a"})), ran(shown({"text/plain": "a"})), "display 1, text/html"),
        (ran(status="error", ename="A", evalue="1"), ran(status="error", ename="A", evalue="2"), "error"),
        (ran(), ran(status="kernel_died"), "status"),
        (ran(final=None, final_source="FINAL"), ran(), "answer"),
        (ran(final=[1], final_source="FINAL"), ran(final=[2], final_source="FINAL"), "answer"),
        (ran(code="a"), ran(code="b"), "code"),
        (ran(stream("a" * 3_000_000 + "1 ms")), ran(stream("b" * 3_000_000 + "2 ms")), "stdout"),
    ],
)
def test_a_difference(then: Ran, now: Ran, where: str) -> None:
    """It says where, shows both sides, and varies if the cell reads what is not pinned."""
    found = compare_cells(then, now, PLAIN)
    assert (found.verdict, found.where[0]) == ("different", where)
    assert f"--- {where}, recorded\n+++ {where}, now\n@@" in found.diff
    varies = compare_cells(then, now, Circumstances(reads=["uuid4"]))
    assert (varies.verdict, varies.reads, varies.diff) == ("varies", ["uuid4"], found.diff)


def test_streams_among_one_another() -> None:
    """The order of the streams and of displays among one another is a rule's, that in each of them no one's."""
    one, two = stream("1"), stream("2", "stderr")
    assert said(compare_cells(ran(one, two), ran(two, one), PLAIN)) == ("normalised", ["stream order"], [])
    parts = ran(stream("1"), two, stream("3")), ran(stream("13"), two)
    assert said(compare_cells(*parts, PLAIN)) == ("normalised", ["stream order"], [])
    displays = shown({"text/plain": "1"}), shown({"text/plain": "2"})
    assert compare_cells(ran(*displays), ran(*displays[::-1]), PLAIN).verdict == "different"


def test_lines_of_threads() -> None:
    """The same lines in another order are the same where the code speaks of threads; other lines never are."""
    one, two = ran(stream("a 1 ms\nb\n")), ran(stream("b\na 2 ms\n"))
    parallel = Circumstances(parallel=True)
    assert said(compare_cells(one, two, parallel)) == ("normalised", ["line order"], [])
    assert compare_cells(one, two, PLAIN).verdict == "different"
    assert compare_cells(one, ran(stream("b\nb\n")), parallel).verdict == "different"


def test_late_output() -> None:
    """When it comes, and how much has come when the run ends, is no difference; what came in time has to be there."""
    late = ran(stream("a\n"), late=(stream("b\nc\n"),))
    for other in (
        ran(stream("a\nb\nc\n")),
        ran(stream("a\nb\n")),
        ran(stream("a\n")),
        ran(stream("a\n"), late=(stream("b\n"),)),
    ):
        for pair in ((late, other), (other, late)):
            assert said(compare_cells(*pair, PLAIN)) == ("normalised", ["late output"], [])
    assert compare_cells(late, ran(), PLAIN).verdict == "different"
    assert compare_cells(late, ran(stream("a\nx\n")), PLAIN).verdict == "different"
    display = ran(late=(shown({"text/plain": "1"}),))
    assert said(compare_cells(display, ran(), PLAIN)) == ("normalised", ["late output"], [])
    assert compare_cells(ran(display.late[0]), ran(), PLAIN).verdict == "different"


def test_cut_output() -> None:
    """Streams are compared up to where one was cut; before that they have to be the same."""
    mark = "\n[… output is cut from here on …]\n"
    cut, shorter = ran(stream("abc" + mark), cut=9), ran(stream("ab" + mark), cut=10)
    assert said(compare_cells(cut, shorter, PLAIN)) == ("normalised", ["cut output", "cut sizes"], [])
    assert compare_cells(cut, ran(stream("abx" + mark), cut=9), PLAIN).verdict == "different"
    assert compare_cells(ran(stream("abcd")), ran(stream("abc" + mark)), PLAIN).verdict == "different"


def test_redacted_values() -> None:
    """What stands around a redaction is compared; at best the cell is equal after normalising."""
    then = ran(stream("key: [redacted]! 0x1\n"), redacted=("output.text",))
    assert said(compare_cells(then, ran(stream("key: sk-1\n2! 0x1\n")), PLAIN)) == ("normalised", ["redacted"], [])
    assert said(compare_cells(then, then, PLAIN)) == ("normalised", ["redacted"], [])
    for text in ("key: sk-1", "kez: sk-1! 0x1\n", "key: sk-1! 0x2\n"):
        assert compare_cells(then, ran(stream(text)), PLAIN).verdict == "different"
    printed = ran(stream("key: [redacted]! 0x1\n"))
    assert compare_cells(printed, ran(stream("key: 1! 0x1\n")), PLAIN).verdict == "different"


def test_answers() -> None:
    """Texts such as answers are compared by the same rules."""
    assert said(compare_texts("answer 1", "at 0x7f00", "at 0x7f01", PLAIN)) == ("normalised", ["addresses"], [])
    assert said(compare_texts("answer 1", "4", "5", PLAIN)) == ("different", [], ["answer 1"])


def test_outputs_as_a_notebook_has_them() -> None:
    """Text is joined, what was cleared is gone, and an update is where its display was."""
    first, second = shown({"text/plain": "1"}), shown({"text/plain": "2"})
    events: list[CellOutput | CellOutputCleared] = [
        CellOutput(cell=1, output=stream("gone")),
        CellOutputCleared(cell=1, wait=True),
        CellOutput(cell=1, output=stream("a")),
        CellOutput(cell=1, output=stream("b")),
        CellOutput(cell=1, output=first, display_id="d"),
        CellOutput(cell=1, output=stream("c", "stderr")),
        CellOutput(cell=1, output=second, display_id="d", update=True),
    ]
    assert folded(events) == (stream("ab"), second, stream("c", "stderr"))
    assert folded([*events, CellOutputCleared(cell=1)]) == ()


def test_a_diff_is_short_and_harmless() -> None:
    """Long texts and lines are cut around what differs, and control characters are written out."""
    one, two = (
        "\n".join(f"line {n}" + " x" * 1000 for n in range(5000)) + end for end in ("\n\x1b[2Jend", "\nEND\u202e")
    )
    diff = readable(Difference("stdout", one, two))
    assert len(diff) < 5000
    assert "-\\x1b[2Jend" in diff
    assert "+END\\u202e" in diff
    long = readable(Difference("stdout", "a" * 10**6 + "b" + "c" * 10**6, "a" * 10**6 + "d" + "c" * 10**6))
    assert "b" in long.splitlines()[3]
    assert "d" in long.splitlines()[4]
    assert len(long) < 2000
    assert len(readable(Difference("stdout", "\n" * 10**6, "x\n" * 10**6))) < 20_000


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        ("a\nb\nc", "a\nx\nc", ("b\n", "x\n")),
        ("a", "b", ("a", "b")),
        ("a\n", "a\na\n", ("", "a\n")),
    ],
)
def test_trimming(one: str, two: str, expected: tuple[str, str]) -> None:
    """Whole lines that both begin and end with are left out, each once."""
    assert trimmed(one, two) == expected


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("a\n" * 5_000_000, "b\n" * 5_000_000),
        ("a\nb\n" * 2_500_000, "b\na\n" * 2_500_000),
        ("x" * 10_000_000, "x" * 9_999_999 + "y"),
        ("[redacted]" * 200_000, "[redacted" * 200_000),
    ],
)
def test_large_outputs(one: str, two: str) -> None:
    """Ten megabytes are compared within seconds, whatever they are."""
    began = time.monotonic()
    around = Circumstances(parallel=True)
    compared = compare_cells(ran(stream(one), redacted=("output.text",)), ran(stream(two)), around)
    assert len(compared.diff) < 20_000
    assert time.monotonic() - began < 20


def test_deep_values() -> None:
    """The deepest value that a recording can hold is compared as any other."""
    deep = msgspec.json.decode(b"[" * 150 + b"1" + b"]" * 150)
    other = msgspec.json.decode(b"[" * 150 + b"2" + b"]" * 150)
    assert compare_cells(ran(shown({"a/json": deep})), ran(shown({"a/json": other})), PLAIN).verdict == "different"
