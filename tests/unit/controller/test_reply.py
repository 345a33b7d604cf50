"""What is taken from a reply: cells and textual finals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_kernel.controller.reply import Reply, read_reply


def cells(text: str, finish_reason: str = "stop") -> tuple[str, ...]:
    return read_reply(text, finish_reason).cells


def final(text: str) -> str | None:
    found = read_reply(text, "stop").final
    return None if found is None else found.text if found.text is not None else f"run {found.code}"


@pytest.mark.parametrize(
    "opening",
    [
        "```repl",
        "```python",
        "```py",
        "```Python",
        "``` REPL",
        "```python {.x #y}",
        "```{.python}",
        "~~~py",
        "`````repl",
    ],
)
def test_a_python_fence_in_any_spelling_is_a_cell(opening: str) -> None:
    """The language counts, whatever its case, its attributes and its fence."""
    closing = opening[: len(opening) - len(opening.lstrip(opening[0]))]
    assert cells(f"I look.\n{opening}\nx = 1\n{closing}\nDone.") == ("x = 1\n",)


@pytest.mark.parametrize("language", ["", "bash", "json", "text", "pycon", "python-console", "replay"])
def test_a_fence_in_another_language_is_not_run(language: str) -> None:
    """Only Python is run."""
    assert cells(f"```{language}\nx = 1\n```") == ()


def test_several_cells_keep_their_order() -> None:
    """Two blocks are two cells, and one in another language between them is none."""
    assert cells("```repl\na\n```\n```json\n{}\n```\n~~~python\nb\n~~~") == ("a\n", "b\n")


def test_a_longer_fence_holds_shorter_ones() -> None:
    """A block ends at a fence at least as long as its own."""
    inner = "text = 1\n```json\n{}\n```\n"
    assert cells(f"````repl\n{inner}````") == (inner,)


def test_a_longer_fence_of_another_language_hides_its_inner_cell() -> None:
    """Python inside of a Markdown block is an example, not a cell."""
    assert cells("````markdown\n```python\nx\n```\n````") == ()


@pytest.mark.parametrize("quote", ["'''", '"""'])
def test_fences_inside_a_string_do_not_end_a_cell(quote: str) -> None:
    """A triple-quoted string may hold whole blocks, though the outer fence is no longer than theirs."""
    code = f"prompt = f{quote}\n```json\n{{}}\n```\nand\n```\nplain\n```\n{quote}\nprint(1)\n"
    assert cells(f"Now:\n```repl\n{code}```\nThen\n```repl\ny\n```") == (code, "y\n")


def test_a_string_that_no_later_fence_ends_leaves_the_first_end_in_force() -> None:
    """A cell with a real syntax error does not swallow the rest of the reply."""
    assert cells("```repl\nx = '''oops\n```\nprose\n```repl\ny = 2\n```") == ("x = '''oops\n", "y = 2\n")


def test_many_fences_in_an_open_string_take_bounded_time() -> None:
    """A reply made to be slow is read all the same."""
    assert cells("```repl\nx = '''\n" + "```\na\n" * 5_000)[0] == "x = '''\n"


@pytest.mark.parametrize("indent", ["   ", "      ", "\t"])
def test_an_indented_block_in_a_list_is_a_cell_without_the_indent(indent: str) -> None:
    """Models write cells under list items."""
    assert cells(f"1. Look:\n{indent}```repl\n{indent}if x:\n{indent}    y\n{indent}```") == ("if x:\n    y\n",)


def test_raw_html_around_a_block_does_not_hide_it() -> None:
    """Models wrap their replies in tags."""
    assert cells("<div>\n```repl\nx\n```\n</div>") == ("x\n",)


def test_windows_line_ends_are_read() -> None:
    """A reply with CRLF has the same cells."""
    assert cells("```repl\r\nx\r\n```\r\n") == ("x\n",)


def test_an_open_block_is_run_if_the_model_ended_the_reply() -> None:
    """Only the closing fence was forgotten."""
    assert read_reply("```repl\nx = 1", "stop") == Reply(("x = 1",), None, False)


def test_an_open_block_of_a_reply_that_was_cut_off_is_not_run() -> None:
    """Half a cell does something else than the whole; what came before it is still run."""
    assert read_reply("FINAL(1)\n```repl\na\n```\n```repl\nx = 1", "length") == Reply(("a\n",), None, True)


def test_an_empty_block_is_no_cell() -> None:
    """There is nothing to run in it."""
    assert cells("```repl\n\n```") == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FINAL(42)", "42"),
        ("So:\n  FINAL(forty two).\n", "forty two"),
        ("**FINAL(42)**", "42"),
        ('FINAL("a \\"b\\" :)")', 'a "b" :)'),
        ("FINAL('it\\'s')", "it's"),
        ('FINAL("""two\nlines""")', "two\nlines"),
        ('FINAL("C:\\users")', "C:\\users"),
        ('FINAL("a\\d")', "a\\d"),
        ('FINAL("a" and "b")', '"a" and "b"'),
        ("FINAL(f(x) = (x + 1))", "f(x) = (x + 1)"),
        ("FINAL(one\n(two)\nthree)", "one\n(two)\nthree"),
        ("FINAL(1) red 2) blue)", "1) red 2) blue"),
        ("FINAL(\n1) red\n2) blue\n)", "1) red\n2) blue"),
        ("FINAL(1)\nFINAL(2)", "2"),
        ("FINAL()", ""),
        ("FINAL_VAR(result)", "run FINAL_VAR('result')"),
        ('FINAL_VAR("result")', "run FINAL_VAR('result')"),
        ('FINAL(f"{n} found")', 'run FINAL(f"{n} found")'),
    ],
)
def test_a_final_on_its_own_lines_is_taken(text: str, expected: str) -> None:
    """Quotes go, parentheses need not balance, the last one counts."""
    assert final(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "I will call FINAL(answer) later.",
        "`FINAL(answer)`",
        "FINAL(answer) is what I will write soon.\nThen more (much)",
        "FINAL(answer is cut off",
        "FINALLY(1)",
        "FINAL_ANSWER(1)",
        "final(1)",
        "```text\nFINAL(1)\n```",
        "```repl\nFINAL(1)\n```",
        "FINAL(\nno end\n```text\n)\n```",
    ],
)
def test_a_mention_is_no_final(text: str) -> None:
    """In a sentence, in code, in a block or without an end it is not the answer."""
    assert final(text) is None


def test_an_open_quote_takes_bounded_time() -> None:
    """Backslashes in a string that never ends have one reading only."""
    assert final('FINAL("' + "\\a" * 50_000) is None


def test_many_finals_take_bounded_time() -> None:
    """A reply made to be slow is read all the same, and its first finals count."""
    assert final("FINAL(1)\n" * 10 + "FINAL(a\n" * 20_000) == "1"


def test_a_block_inside_a_final_belongs_to_the_answer() -> None:
    """An answer that is code is not run."""
    text = "FINAL(\nUse:\n```python\nf(1)\n```\n)"
    assert read_reply(text, "stop").cells == ()
    assert final(text) == "Use:\n```python\nf(1)\n```"


def test_code_and_a_final_are_both_taken() -> None:
    """What counts is decided after the code has run."""
    reply = read_reply("```repl\nx\n```\nFINAL(1)", "stop")
    assert reply.cells == ("x\n",)
    assert reply.final is not None
    assert reply.final.text == "1"


plain_code = st.text(st.characters(exclude_characters="`~\r\0", exclude_categories=["Cs"])).map(
    lambda text: text + "\n"
)


@given(plain_code.filter(lambda code: code.strip() != ""), st.sampled_from(["```", "~~~", "``````"]))
def test_code_without_a_fence_line_comes_back_unchanged(code: str, mark: str) -> None:
    """Whatever the code is, what is run is exactly what was written."""
    assert cells(f"Prose.\n{mark}repl\n{code}{mark}\nProse.") == (code,)


@given(st.text(st.sampled_from("`~repl pyFINAL_VAR()'\"\\\n*x.")), st.sampled_from(["stop", "length"]))
def test_any_reply_can_be_read(text: str, finish_reason: str) -> None:
    """No arrangement of the special characters raises."""
    reply = read_reply(text, finish_reason)
    assert all(line.strip() in text for code in reply.cells for line in code.split("\n"))


@given(st.lists(st.sampled_from(["```", "```json", "{}", "~~~", "````", " ```", "FINAL(1)"]), max_size=20))
def test_a_string_in_a_cell_may_hold_any_arrangement_of_fences(lines: list[str]) -> None:
    """The cell ends where its code does."""
    code = "\n".join(["x = '''", *lines, "'''", "print(x)", ""])
    reply = read_reply(f"```repl\n{code}```\nProse.", "stop")
    assert (reply.cells, reply.final) == ((code,), None)
