"""The demonstration, as a new user runs it."""

from __future__ import annotations

from tests.e2e.conftest import Program


def test_the_demo_answers_right_with_a_real_sub_model(program: Program) -> None:
    """A scripted root, a real small model and a real container give the answer that a count without models gives."""
    ended = program.run("-m", "rlm_kernel", "demo")
    assert ended.status == 0, ended.err
    assert ended.out == "Barry Warsaw\n"
    assert "Right: a count without any model says 'Barry Warsaw' too" in ended.err
