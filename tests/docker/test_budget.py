"""Budgets of whole runs on the real engine, with a real server behind the sub-model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from rlm_kernel import RLM, Settings
from rlm_kernel.assembly import RunResult
from rlm_kernel.errors import BudgetExceeded
from rlm_kernel.events import (
    AnswerGiven,
    BudgetSpent,
    BudgetWarning,
    CellFinished,
    CellInterrupted,
    ModelRequested,
    RunFinished,
    SubcallFailed,
    SubcallRefused,
    SubcallReplied,
)
from tests.docker.test_rlm import cell, script
from tests.support.provider_server import OUTPUT_TOKENS, ProviderServer, Reply
from tests.support.sinks import Events


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ProviderServer]:
    """The sub-model's server, which takes a moment for each reply."""
    async with ProviderServer(lambda body: Reply(delay=0.005)).run() as running:
        monkeypatch.setenv("VLLM_BASE_URL", f"{running.url}/v1")
        yield running


@pytest.fixture
def settings(image: str, tmp_path: Path) -> Settings:
    """Settings with a state folder of the test's own."""
    assert image
    return Settings(state_dir=tmp_path / "state", memory=512 * 2**20, cell_timeout=60)


async def answer(settings: Settings, events: Events, root: str) -> RunResult[str]:
    """Run a scripted root model whose sub-calls go to the server."""
    async with RLM(root, "vllm:m", settings=settings, on_event=events) as rlm:
        return await rlm.acompletion("How many?", "text")


def said(events: Events) -> list[str]:
    """Return all that the root model was told, request by request."""
    return ["\n".join(message.content for message in each.messages) for each in events.of(ModelRequested)]


BATCH = cell(
    "replies = llm_query_batched(['how many?'] * 100, return_exceptions=True)\n"
    "good = [reply for reply in replies if isinstance(reply, str)]\n"
    "print('kinds', {type(reply).__name__ for reply in replies})\n"
    "llm_query('one more')"
)


@pytest.mark.parametrize("limit", ["max_output_tokens", "max_subcalls"])
async def test_a_batch_that_meets_the_limit(
    limit: str, settings: Settings, events: Events, server: ProviderServer, tmp_path: Path
) -> None:
    """A batch of 100 is answered as far as the budget goes; what is beyond that raises `BudgetExceeded` in the cell.

    The model is told once, its best answer still has the cell's variables, and the caller is told why it is partial.
    """
    tokens = replace(settings, max_reply_tokens=50, max_output_tokens=300)
    limited = tokens if limit == "max_output_tokens" else replace(settings, max_reply_tokens=50, max_subcalls=40)
    root = script(tmp_path, BATCH, cell("FINAL(len(good))"))
    result = await answer(limited, events, root)
    answered = len(events.of(SubcallReplied))
    assert result.status == "partial"
    assert result.reason is not None
    assert result.answer == str(answered)
    assert 20 <= answered <= 40
    assert len(server.requests) == answered
    assert [event.limit for event in events.of(BudgetSpent)] == [limit]
    assert limit == "max_output_tokens" or [event.limit for event in events.of(BudgetWarning)] == [limit]
    assert result.reason == events.of(BudgetSpent)[0].message
    refused = [event for event in events.of(SubcallFailed) if event.code == "budget_exceeded"]
    assert answered + len(refused) + len(events.of(SubcallRefused)) == 101
    first, last = said(events)
    assert "is reached" not in first
    assert last.count(result.reason) == 1
    assert "BudgetExceeded" in last
    assert events.of(RunFinished)[0].reason == events.of(AnswerGiven)[0].reason == result.reason
    if limit == "max_output_tokens":
        assert sum(usage.output_tokens for usage in result.usage.values()) <= 300
        assert answered * OUTPUT_TOKENS < 225
        assert all(request.body["max_tokens"] == 50 for request in server.requests)


async def test_the_time_ends_a_cell_in_its_middle(
    settings: Settings, events: Events, server: ProviderServer, tmp_path: Path
) -> None:
    """At the run's time limit the running cell is interrupted, its variables stay, and the best answer is asked for."""
    root = script(tmp_path, cell("kept = 42\nimport time\ntime.sleep(300)"), cell("FINAL_VAR('kept')"))
    result = await answer(replace(settings, run_timeout=12), events, root)
    assert (result.answer, result.status) == ("42", "partial")
    assert result.reason == "The limit of 12 s is reached."
    assert {event.reason for event in events.of(CellInterrupted)} == {"budget"}
    assert [event.status for event in events.of(CellFinished)] == ["interrupted", "ok"]
    assert result.seconds < 60
    assert server.requests == []


async def test_output_is_limited_over_the_whole_run(
    settings: Settings, events: Events, server: ProviderServer, tmp_path: Path
) -> None:
    """A cell that prints on and on is ended when the run's output is spent, and the answer is the best one so far."""
    root = script(tmp_path, cell("while True:\n    print('x' * 1000)"), "FINAL(too much)")
    result = await answer(replace(settings, max_output_size=200_000), events, root)
    assert (result.answer, result.status) == ("too much", "partial")
    assert events.of(BudgetSpent)[0].limit == "max_output_size"
    assert events.of(CellFinished)[0].status == "interrupted"


async def test_without_any_turn_there_is_no_answer(
    settings: Settings, events: Events, server: ProviderServer, tmp_path: Path
) -> None:
    """A budget that not even the first request fits into fails the run, with the way out, and it is recorded so."""
    with pytest.raises(BudgetExceeded, match="--max-total-tokens"):
        await answer(replace(settings, max_total_tokens=100), events, script(tmp_path, "FINAL(no)"))
    assert events.of(RunFinished)[0].status == "failed"


async def test_what_is_left_can_be_asked(
    settings: Settings, events: Events, server: ProviderServer, tmp_path: Path
) -> None:
    """A session and a handle on a run tell what was used, what remains, and what a call would take."""
    ask = cell("FINAL(llm_query('x'))")
    limited = replace(settings, max_subcalls=5, max_total_tokens=1_000_000)
    async with RLM(script(tmp_path, ask, ask), "vllm:m", settings=limited) as rlm:
        async with rlm.session("text") as session:
            assert session.budget.remaining().subcalls == 5
            await session.ask("How many?")
            assert session.budget.remaining().subcalls == 4
            assert session.budget.spent is None
            assert session.budget.estimate("x", "vllm:m").fits
            assert not session.budget.estimate("word " * 2 * 10**6, "vllm:m").fits
        run = rlm.start("How many?", "text")
        before = run.budget
        assert before is None
        assert (await run.result()).answer == "ok"
        assert run.budget is not None
        assert run.budget.used().subcalls == 1
        assert run.budget.remaining().cost_usd is None
