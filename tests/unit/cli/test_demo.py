"""The demonstration's text, question and check."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlm_kernel.assembly import RunResult
from rlm_kernel.cli.demo import SCRIPT, SUB_MODEL, expected, judge, next_steps, write_text
from rlm_kernel.models.scripted import read_script
from rlm_kernel.types import Usage


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's text."""
    return write_text(tmp_path_factory.mktemp("demo"))


def result(answer: str, usage: dict[str, Usage]) -> RunResult[str]:
    """A run's result as far as the check looks at it."""
    return RunResult(
        answer=answer, value=answer, status="answered", run="r", recording=Path("r"), usage=usage, seconds=1.0, turns=4
    )


def test_the_text_is_long_and_written_once(text: Path) -> None:
    """Several megabytes of UTF-8 without binary parts; a second call finds the file."""
    assert text.stat().st_size > 5_000_000
    assert "\0" not in text.read_text(encoding="utf-8")
    before = text.stat()
    assert write_text(text.parent.parent).stat().st_mtime_ns == before.st_mtime_ns
    assert [file.name for file in text.parent.iterdir()] == [text.name]


def test_the_right_answer_is_counted_without_a_model() -> None:
    """Only the email package counts, one credit may name several people."""
    parts = {
        "email/a.py": "# Author: Ann Lee, Bo Ray",
        "email/b.py": "#  Authors: Bo Ray and Cy Dow",
        "json/c.py": "# Author: Ann Lee\n# Author: Ann Lee",
    }
    assert expected("".join(f"=== {name} ===\n{source}\n" for name, source in parts.items())) == "Bo Ray"


def test_the_check_can_fail(text: Path) -> None:
    """A wrong answer, and an answer in which the sub-model had no part, are refused."""
    right = expected(text.read_text(encoding="utf-8"))
    called = {SUB_MODEL: Usage(calls=21)}
    assert judge(result(right, called), text).right
    assert not judge(result(right, {}), text).right
    assert not judge(result("Guido van Rossum", called), text).right


def test_the_script_asks_the_sub_model() -> None:
    """The shipped root turns can be read, and the answer comes out of sub-calls."""
    turns = read_script(SCRIPT)
    assert any("llm_query_batched" in turn for turn in turns)
    assert "FINAL(winner)" in turns[-1]


def test_a_key_brings_a_command_to_copy(text: Path) -> None:
    """With a key the same question can be put to its provider; without one the variables are named."""
    assert "--model anthropic:" in "\n".join(next_steps(text, {"ANTHROPIC_API_KEY": "k"}))
    assert "OPENAI_API_KEY" in next_steps(text, {})[0]
