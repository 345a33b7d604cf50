"""Whole runs with a root model behind a provider's interface: tools, streams, and what providers refuse."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel import RLM, Settings
from rlm_kernel.events import HistoryCompacted, ModelReplied, ModelRequested, ProfileChosen
from rlm_kernel.models.model import TextDelta
from tests.support.provider_server import ProviderServer, Reply
from tests.support.sinks import Events


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ProviderServer]:
    """A provider that runs, at the address of both interfaces."""
    async with ProviderServer().run() as server:
        monkeypatch.setenv("VLLM_BASE_URL", f"{server.url}/v1")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "x")
        yield server


def settings(image: str, tmp_path: Path, **others: Any) -> Settings:
    """Return settings with a state folder of the test's own."""
    assert image
    return Settings(state_dir=tmp_path / "state", memory=512 * 2**20, cell_timeout=30, **others)


def calling(*codes: str) -> Reply:
    """Return a reply with a call for each code, and thinking."""
    calls = [
        {"id": f"c{n}", "type": "function", "function": {"name": "python", "arguments": json.dumps({"code": code})}}
        for n, code in enumerate(codes)
    ]
    blocks = [
        {"type": "tool_use", "id": f"c{n}", "name": "python", "input": {"code": code}} for n, code in enumerate(codes)
    ]
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s1gned"}
    return Reply(text=None, message={"tool_calls": calls}, blocks=(thinking, *blocks))


@pytest.mark.parametrize("model", ["vllm:m", "anthropic:m"])
async def test_a_streamed_run_with_tools(image: str, tmp_path: Path, server: ProviderServer, model: str) -> None:
    """Calls run as cells in one kernel, their outputs come back as results, and a call's FINAL is the answer."""
    server.replies += [
        calling("n = context.count('a')", "print(n)"),
        calling("1 / 0"),
        calling("FINAL(f'{n} times')"),
    ]
    heard: list[TextDelta] = []
    events = Events()
    given = settings(image, tmp_path, model=model, tool_calling="on")
    async with RLM(settings=given, on_event=events, on_text=heard.append) as rlm:
        result = await rlm.acompletion("How many?", "banana")
    assert (result.answer, result.status, result.turns) == ("3 times", "answered", 3)
    sent = json.dumps(server.requests[1].body["messages"][-2:])
    assert "(no output)" in sent
    assert '"3"' in sent
    assert "ZeroDivisionError" in json.dumps(server.requests[2].body["messages"][-1])
    assert all(request.body["stream"] for request in server.requests)
    assert "print(n)" in "".join(piece.text for piece in heard if piece.kind == "arguments")
    (chosen,) = (event for event in events.all if isinstance(event, ProfileChosen))
    assert chosen.tools
    calls = [len(event.tool_calls) for event in events.all if isinstance(event, ModelReplied)]
    assert calls == [2, 1, 1]


async def test_a_long_run_is_compacted_and_its_variables_are_told(
    image: str, tmp_path: Path, server: ProviderServer
) -> None:
    """The kernel itself says what the variables are, and the run goes on to its answer."""

    def answer(body: dict[str, Any]) -> Reply:
        tokens = len(json.dumps(body["messages"])) // 3
        last = body["messages"][-1]["content"]
        if "Write down" in last:
            return Reply(text="`hits` holds what I found.", input_tokens=tokens)
        if "Your variables:" in json.dumps(body["messages"]):
            return Reply(text="```repl\nFINAL(len(hits))\n```", input_tokens=tokens)
        return Reply(text="```repl\nhits = [1] * 7\nprint('x' * 5000)\n```", input_tokens=tokens)

    server._answer = answer
    events = Events()
    given = settings(image, tmp_path, model="vllm:m", model_window=6000)
    async with RLM(settings=given, on_event=events) as rlm:
        result = await rlm.acompletion("How many?", "banana")
    assert result.answer == "7"
    (compacted,) = (event for event in events.all if isinstance(event, HistoryCompacted))
    assert compacted.by_model
    told = next(m for m in server.requests[-1].body["messages"] if "Your variables:" in str(m["content"]))
    assert "'hits': 'list" in told["content"]
    rebuilt: list[Any] = []
    for event in events.all:
        if isinstance(event, ModelRequested):
            rebuilt = rebuilt[: event.history] + event.messages
    assert [{"role": m.role, "content": m.content} for m in rebuilt] == server.requests[-1].body["messages"]


async def test_a_model_without_tools_falls_back_to_fences(image: str, tmp_path: Path, server: ProviderServer) -> None:
    """The provider's refusal costs one request, and the run goes on."""
    server.replies += [
        Reply(status=400, text="m does not support tools"),
        Reply(text="```repl\nFINAL(len(context))\n```"),
    ]
    given = settings(image, tmp_path, model="vllm:m", tool_calling="on")
    async with RLM(settings=given) as rlm:
        result = await rlm.acompletion("How long?", "banana")
    assert result.answer == "6"
    assert ["tools" in request.body for request in server.requests] == [True, False]
