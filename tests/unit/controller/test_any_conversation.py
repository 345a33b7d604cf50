"""Whatever models and cells do: every request is one that providers take, and begins with the one before."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_kernel.controller import ContextSummary, Controller, ControllerLimits
from rlm_kernel.controller.profile import find_profile
from rlm_kernel.errors import ModelUnavailable, PromptTooLong, RlmKernelError, SandboxLost, ToolsRefused
from rlm_kernel.events import HistoryCompacted, ModelRequested, Notice
from rlm_kernel.kernel.result import CellResult, Final
from rlm_kernel.types import Message, ToolCall, Usage
from tests.support.fakes import FakeCells, FakeModel, ListSink, Turn, cell_error, cell_ok, completion

CONTEXT = ContextSummary(type_name="str", length=9, unit="characters", total_chars=9, preview="")
TEXTS = [
    ("```repl\nlook()\n```", "stop"),
    ("FINAL(yes)", "stop"),
    ("FINAL()", "stop"),
    ("no code", "stop"),
    (" ", "stop"),
    ("<think>only", "stop"),
    ("sorry", "refusal"),
    ("```repl\nprint(1", "length"),
]
ARGUMENTS = ['{"code": "1"}', "", '{"code": "a\nb"}', '{"co', "[]"]
ERRORS = [PromptTooLong("long"), ToolsRefused("no tools"), ModelUnavailable("down"), asyncio.CancelledError()]


def turn(random: Random, number: int) -> Turn:
    """Return what a model does: calls, texts of all kinds, long ones among them, or an error."""
    kind = random.random()
    if kind < 0.1:
        return random.choice(ERRORS)
    calls: tuple[ToolCall, ...] = ()
    text, reason = random.choice(TEXTS)
    if kind < 0.4:
        text, reason = random.choice(["", "hm"]), "tool_calls"
        calls = tuple(
            ToolCall(f"c{number}-{place}", random.choice(["python", "python", "no!"]), random.choice(ARGUMENTS))
            for place in range(random.randint(1, 3))
        )
    usage = Usage(calls=1, input_tokens=random.choice([0, 100, 3_000, 9_000]), output_tokens=5)
    return replace(completion("x" * random.choice([0, 9_000]) + text, reason), tool_calls=calls, usage=usage)


def outcome(random: Random) -> CellResult:
    """Return what a cell comes to. Raise what ends a question in the middle of it."""
    kind = random.random()
    if kind < 0.1:
        raise random.choice([SandboxLost("lost"), asyncio.CancelledError()])
    if kind < 0.2:
        return cell_error()
    final = Final(source="FINAL", value=random.choice(["done", None])) if kind < 0.3 else None
    return replace(cell_ok("o" * random.choice([0, 9_000])), final=final)


def is_taken(messages: list[Message]) -> bool:
    """Tell whether providers take a conversation: roles in turn, calls with their results, nothing empty."""
    open_calls: set[str | None] = set()
    before = ""
    for message in messages:
        if message.role == "tool":
            if message.tool_call_id not in open_calls:
                return False
            open_calls.remove(message.tool_call_id)
        elif open_calls or message.role == before or not (message.content.strip() or message.tool_calls):
            return False
        open_calls |= {call.id for call in message.tool_calls}
        if any(not isinstance(json.loads(call.arguments), dict) for call in message.tool_calls):
            return False
        before = message.role
    return not open_calls and before in {"user", "tool"}


def begins_anew(sink: ListSink) -> list[bool]:
    """Tell of each request whether it need not begin with the one before: made shorter, or with fences for tools."""
    anew, found = True, []
    for event in sink.events:
        anew |= isinstance(event, HistoryCompacted) or (isinstance(event, Notice) and "fences" in event.message)
        if isinstance(event, ModelRequested):
            found.append(anew)
            anew = any("Write down what you need" in message.content for message in event.messages[-1:])
    return found


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
async def test_requests_are_taken_and_begin_with_the_one_before(seed: int) -> None:
    """Over several questions, compactions, failures and cancels; and the recording gives each of them exactly."""
    random = Random(seed)
    model, sink = FakeModel([turn(random, number) for number in range(100)]), ListSink()
    profile = replace(find_profile("fake:x"), tools=random.random() < 0.6, window=random.choice([None, 5_000]))
    limits = ControllerLimits(max_turns=random.choice([3, 8]))
    controller = Controller(model, FakeCells(lambda code: outcome(random)), sink, limits, profile)
    for _ in range(4):
        with suppress(RlmKernelError, asyncio.CancelledError):
            await controller.answer("What?", CONTEXT)
    sent = [list(request.messages) for request in model.requests]
    recorded: list[list[Message]] = [[]]
    for event in sink.events:
        if isinstance(event, ModelRequested):
            recorded.append(recorded[-1][: event.history] + event.messages)
    assert recorded[1:] == sent
    assert [place for place, messages in enumerate(sent) if not is_taken(messages)] == []
    for before, after, anew in zip(sent, sent[1:], begins_anew(sink)[1:], strict=False):
        assert anew or after[: len(before)] == before
