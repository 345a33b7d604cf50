"""Replies as real models give them, a file for each: what is run, what answers, what the model is told.

A file begins with what is expected of its reply, as TOML between two lines `+++`: the cells that are run (`runs`), that
print `prints`, or fail where `fails`; the `answer`, or else what stands in the next request: what is `told`, the
`results` of the reply's `calls` of tools.
"""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from rlm_kernel.controller import ContextSummary, Controller, ControllerLimits
from rlm_kernel.controller.profile import find_profile
from rlm_kernel.types import Message, ToolCall
from tests.support.fakes import FakeCells, FakeModel, ListSink, cell_error, cell_ok, completion

FILES = sorted(Path(__file__).with_name("replies").glob("*.md"))
CONTEXT = ContextSummary(type_name="str", length=9, unit="characters", total_chars=9, preview="")


class Expected(msgspec.Struct, forbid_unknown_fields=True):
    """What a file says of its reply."""

    finish_reason: str = "stop"
    tools: bool = False
    calls: list[dict[str, str]] = []
    runs: list[str] = []
    prints: str = ""
    fails: bool = False
    answer: str | None = None
    told: list[str] = []
    not_told: list[str] = []
    results: list[str] = []


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
async def test_a_reply_comes_to_what_its_file_says(file: Path) -> None:
    """Each is handled as a person would expect who reads it."""
    _, head, text = file.read_text().split("+++\n", 2)
    expected = msgspec.convert(tomllib.loads(head), Expected)
    calls = tuple(ToolCall(f"c{n}", call["name"], call["arguments"]) for n, call in enumerate(expected.calls))
    reply = replace(completion(text.removesuffix("\n"), expected.finish_reason), tool_calls=calls)
    model, cells = (
        FakeModel([reply, "FINAL(later)"]),
        FakeCells(lambda code: cell_error() if expected.fails else cell_ok(expected.prints)),
    )
    profile = find_profile("anthropic:x" if calls or expected.tools else "fake:x")
    outcome = await Controller(model, cells, ListSink(), ControllerLimits(), profile).answer("?", CONTEXT)
    assert [code for code, _ in cells.ran] == expected.runs
    assert outcome.answer == (expected.answer or "later")
    if expected.answer is None:
        _check_next(expected, list(model.requests[1].messages), list(model.requests[0].messages))


def _check_next(expected: Expected, after: list[Message], before: list[Message]) -> None:
    """Check the request that follows the reply."""
    assert after[: len(before)] == before
    _, *said = after[len(before) :]
    results = [message for message in said if message.role == "tool"]
    told = "\n".join(message.content for message in said if message.role == "user")
    assert [message.tool_call_id for message in results] == [f"c{n}" for n in range(len(expected.calls))]
    for message, part in zip(results, expected.results, strict=True):
        assert part in message.content
    assert bool(told) == bool(expected.told)
    assert [part for part in expected.told if part not in told] == []
    assert [part for part in expected.not_told if part in told] == []
