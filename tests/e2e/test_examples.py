"""The examples run as they are, without a key."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import REPOSITORY, Program

SAYS = {
    "ask_a_file.py": "local:smollm2: 9 calls",
    "ask_a_folder.py": "sub-call: ask_a_folder.py\ncell 2: ok",
    "ask_a_value.py": "Lima",
    "ask_several.py": "Oslo: the report says 12, the orders 11",
    "call_a_tool.py": "Lima has 9 degrees",
    "chat.py": "9 sections\nDefinitions",
    "fork_a_run.py": "9 sections\nTrademarks\ncalls: 1",
    "hooks.py": "context is a str of 6\nsub-call s1 took",
    "sessions_below.py": "s1: 3\ns2: 1\nthe run: 3, 1",
    "structured_answer.py": "Apache License 2.0 9",
    "watch_a_run.py": "3 words\nthe last one is three\nthe run was cancelled",
    "when_it_fails.py": "ScriptExhausted: the script",
}


def test_every_example_is_run_here() -> None:
    """A new example needs a line above."""
    assert {path.name for path in (REPOSITORY / "examples").glob("*.py")} == set(SAYS)


@pytest.mark.parametrize(("name", "text"), SAYS.items())
def test_an_example(program: Program, name: str, text: str) -> None:
    """It ends well and prints what it should, in under 40 lines of code."""
    path = Path("examples") / name
    ended = program.run(str(path))
    assert (ended.status, ended.err) == (0, "")
    assert text in ended.out
    assert len((REPOSITORY / path).read_text().splitlines()) < 40
