"""`rlm-kernel chat` with questions from a pipe."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import Program


@pytest.fixture
def text(tmp_path: Path) -> str:
    """The path of a context."""
    (tmp_path / "text.txt").write_text("banana")
    return str(tmp_path / "text.txt")


def test_questions_from_a_pipe(program: Program, script: Callable[..., str], text: str) -> None:
    """Each line is a question in the same session, each answer a line of its own; the recording is one.

    Turns are shown from each question on.
    """
    model = script("n = context.count('a')\nFINAL(n)", "FINAL(n + 1)")
    arguments = ("-m", "rlm_kernel", "chat", "--model", model, "--context", text)
    ended = program.run(*arguments, given="How many?\n\n  \nAnd one more?")
    assert (ended.status, ended.out) == (0, "3\n4\n")
    assert [line[:6] for line in ended.err.splitlines() if line.startswith("turn")] == ["turn 1", "turn 1"]
    assert len(list((program.state / "rlm_kernel" / "runs").iterdir())) == 1


def test_a_question_without_an_answer(program: Program, script: Callable[..., str], text: str) -> None:
    """It is told, the next one is answered, and the exit status is the failed one's; as JSON a line for each."""
    model = script("x = 7", "1/0", "FINAL(x)")
    arguments = ("-m", "rlm_kernel", "chat", "--json", "--max-turns", "1", "--model", model, "--context", text)
    ended = program.run(*arguments, given="One?\nTwo?\n")
    failed, answered = map(json.loads, ended.out.splitlines())
    assert (ended.status, failed["error"], failed["exit_status"]) == (40, "NoAnswer", 40)
    assert (answered["answer"], answered["turns"]) == ("7", 1)


def test_ctrl_c_ends_a_chat_from_a_pipe(program: Program, script: Callable[..., str], text: str) -> None:
    """Nothing is left of it, and nothing more is asked."""
    process = program.start(
        "-m",
        "rlm_kernel",
        "chat",
        "--verbose",
        "--model",
        script("while True: pass"),
        "-c",
        text,
        stdin=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write("One?\nTwo?\n")
    process.stdin.flush()
    while "while True" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "interrupted" in err


def test_ctrl_c_in_a_terminal_stops_the_question_alone(program: Program, script: Callable[..., str], text: str) -> None:
    """The next question is asked and finds the variables of the one that was stopped."""
    model = script("x = 7\nprint('be' + 'gun', flush=True)\nwhile True: pass", "FINAL(x)")
    terminal, stdin = os.openpty()
    try:
        process = program.start("-m", "rlm_kernel", "chat", "--verbose", "--model", model, "-c", text, stdin=stdin)
        assert process.stderr is not None
        assert process.stdout is not None
        os.write(terminal, b"One?\n")
        for line in ("begun", "interrupted"):
            while line not in process.stderr.readline():
                pass
            if line == "begun":
                process.send_signal(signal.SIGINT)
        os.write(terminal, b"Two?\n\x04")
        assert process.stdout.readline() == "7\n"
        process.communicate(timeout=60)
        assert process.returncode == 130  # the first question's
    finally:
        os.close(terminal)
        os.close(stdin)
