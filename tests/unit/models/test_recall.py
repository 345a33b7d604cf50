"""Identical calls: one request for those at the same time, and answers that are there already."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel.errors import BudgetExceeded, ModelRejected
from rlm_kernel.models.flights import Flights
from rlm_kernel.models.model import Completion, ModelRequest
from rlm_kernel.models.recall import Recall, Recalling
from rlm_kernel.models.store import AnswerStore
from rlm_kernel.recording import REDACTED, Redaction
from rlm_kernel.types import Message, Usage
from tests.unit.models.fakes import ASK, USED, ListedModel

OTHER_ASK = ModelRequest(messages=(Message("user", "something else"),))


class Held(ListedModel):
    """A model whose calls wait for `gate` and then give their number, or raise `error`."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.error = error
        self.ended = 0

    async def complete(self, request: ModelRequest) -> Completion:
        """Wait, then reply."""
        self.calls += 1
        number = self.calls
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return Completion(text=str(number), finish_reason="stop", usage=USED, served_by="held")


def _recalling(model: Any, **options: Any) -> Recalling:
    return Recalling(model, Recall(run="run-1", **options), {"model": "m"})


async def _started(*models: Recalling, count: int = 5) -> list[asyncio.Task[Completion]]:
    tasks = [asyncio.ensure_future(model.complete(ASK)) for model in models for _ in range(count)]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


async def test_identical_calls_are_one_request() -> None:
    """Five equal calls at once are one request; each gets the answer, one of them paid, and others are not touched."""
    held = Held()
    model = _recalling(held, flights=Flights())
    tasks = [*await _started(model), asyncio.ensure_future(model.complete(OTHER_ASK))]
    held.gate.set()
    first, *joined, other = await asyncio.gather(*tasks)
    assert held.calls == 2
    assert (first.text, first.usage, first.cached) == ("1", USED, None)
    assert other.text == "2"
    for completion in joined:
        assert (completion.text, completion.usage, completion.attempts) == ("1", Usage(), 0)
        assert completion.cached is not None
        assert (completion.cached.how, completion.cached.run) == ("joined", "run-1")


async def test_without_it_each_call_is_made() -> None:
    """Unless it is asked for, equal prompts at once are as many requests: they may be samples."""
    held = Held()
    tasks = await _started(_recalling(held))
    held.gate.set()
    assert {completion.text for completion in await asyncio.gather(*tasks)} == {"1", "2", "3", "4", "5"}


async def test_a_later_call_is_made_anew() -> None:
    """Calls are joined only while one is under way."""
    held = Held()
    held.gate.set()
    model = _recalling(held, flights=Flights())
    assert [(await model.complete(ASK)).text for _ in range(2)] == ["1", "2"]


async def test_a_cancelled_caller_cancels_no_other() -> None:
    """If the one that asked is cancelled, another asks; the rest get that answer."""
    held = Held()
    tasks = await _started(_recalling(held, flights=Flights()))
    for number in (0, 3):
        tasks[number].cancel()
        for _ in range(5):
            await asyncio.sleep(0)
    held.gate.set()
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    texts = [outcome.text for outcome in outcomes if isinstance(outcome, Completion)]
    assert texts == ["2", "2", "2"]
    assert (held.calls, held.cancelled) == (2, 1)


async def test_the_last_one_that_is_cancelled_ends_the_request() -> None:
    """When all callers are cancelled nothing is under way any more, and the next call is made anew."""
    held = Held()
    model = _recalling(held, flights=Flights())
    tasks = await _started(model)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert held.calls == held.cancelled
    held.gate.set()
    async with asyncio.timeout(5):
        assert (await model.complete(ASK)).cached is None


async def test_a_models_failure_is_shared() -> None:
    """A request that failed after all its attempts has failed for all its callers, and cost one of them."""
    error = ModelRejected("no")
    error.usage = USED
    held = Held(error)
    tasks = await _started(_recalling(held, flights=Flights()))
    held.gate.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert held.calls == 1
    assert [type(outcome) for outcome in outcomes] == [ModelRejected] * 5
    assert [outcome.usage for outcome in outcomes if isinstance(outcome, ModelRejected)] == [USED, *[None] * 4]


async def test_a_budget_is_its_sessions_own() -> None:
    """Where one session's budget is spent, another one's equal calls are made for themselves."""
    flights = Flights()
    poor, rich = Held(BudgetExceeded("spent")), Held()
    tasks = await _started(_recalling(poor, flights=flights), _recalling(rich, flights=flights), count=3)
    poor.gate.set()
    for _ in range(5):
        await asyncio.sleep(0)
    rich.gate.set()
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [BudgetExceeded] * 3 + [Completion] * 3
    assert (poor.calls, rich.calls) == (1, 1)


async def test_what_a_budget_cut_off_is_its_sessions_own() -> None:
    """A reply that is short for one session's budget is given to no other session, which asks for itself."""

    class Poor(Held):
        async def complete(self, request: ModelRequest) -> Completion:
            return replace(await super().complete(request), text="cut", finish_reason="length", note="cut off")

    flights, poor, rich = Flights(), Poor(), Held()
    tasks = await _started(_recalling(poor, flights=flights), _recalling(rich, flights=flights), count=3)
    poor.gate.set()
    for _ in range(5):
        await asyncio.sleep(0)
    rich.gate.set()
    async with asyncio.timeout(5):
        texts = [completion.text for completion in await asyncio.gather(*tasks)]
    assert texts == ["cut"] * 3 + ["1"] * 3
    assert (poor.calls, rich.calls) == (1, 1)


def test_loops_in_threads_join_calls() -> None:
    """Equal calls of two event loops at the same time are one request, answered in both."""
    flights, answers = Flights(), []
    asked, ready = threading.Event(), threading.Event()

    class Slow(ListedModel):
        async def complete(self, request: ModelRequest) -> Completion:
            self.calls += 1
            asked.set()
            await asyncio.to_thread(ready.wait)
            return Completion(text="ok", finish_reason="stop", usage=USED, served_by="slow")

    slow = Slow()

    async def call() -> None:
        answers.append((await _recalling(slow, flights=flights).complete(ASK)).text)

    async def follow() -> None:
        task = asyncio.ensure_future(call())
        await asyncio.sleep(0.01)
        ready.set()
        await task

    leader = threading.Thread(target=lambda: asyncio.run(call()))
    leader.start()
    asked.wait(10)
    asyncio.run(follow())
    leader.join(10)
    assert answers == ["ok", "ok"]
    assert slow.calls == 1


@pytest.mark.parametrize("mode", ["read", "write"])
async def test_known_answers_are_not_asked_for(tmp_path: Path, mode: str) -> None:
    """Reading finds what is stored and stores nothing; writing stores too. A hit says which run paid, and when."""
    store = AnswerStore(tmp_path, 2**20)
    writes = mode == "write"
    listed = ListedModel("one", "two", "three")
    model = _recalling(listed, store=store, writes=writes)
    assert [(await model.complete(ASK)).text for _ in range(2)] == (["one", "one"] if writes else ["one", "two"])
    if not writes:
        await _recalling(ListedModel("kept"), store=store, writes=True).complete(ASK)
    again = await _recalling(listed, store=AnswerStore(tmp_path, 2**20)).complete(ASK)
    assert again.text == ("one" if writes else "kept")
    assert again.usage == Usage()
    assert again.cached is not None
    assert again.cached.how == "stored"


@pytest.mark.parametrize("reason", ["length", "content_filter", "unknown", "refusal"])
async def test_only_whole_replies_are_kept(tmp_path: Path, reason: str) -> None:
    """A reply that was cut off, or withheld, is asked for again."""
    listed = ListedModel("one", "two")
    cut = listed.complete

    async def complete(request: ModelRequest) -> Completion:
        return replace(await cut(request), finish_reason=reason)

    listed.complete = complete  # type: ignore[method-assign]
    model = _recalling(listed, store=AnswerStore(tmp_path, 2**20), writes=True)
    assert [(await model.complete(ASK)).text for _ in range(2)] == ["one", "two"]


async def test_what_is_private_is_not_kept(tmp_path: Path) -> None:
    """An answer that recordings would not hold whole is not stored either; others are."""
    store = AnswerStore(tmp_path, 2**20)
    private = Redaction([lambda text: text.replace("secret", REDACTED)]).strikes
    model = _recalling(ListedModel("a secret", "none", "more"), store=store, writes=True, is_private=private)
    assert [(await model.complete(ASK)).text for _ in range(3)] == ["a secret", "none", "none"]


async def test_failures_are_not_kept(tmp_path: Path) -> None:
    """A call that failed is made again."""
    model = _recalling(ListedModel(ModelRejected("no"), "ok"), store=AnswerStore(tmp_path, 2**20), writes=True)
    with pytest.raises(ModelRejected):
        await model.complete(ASK)
    assert (await model.complete(ASK)).text == "ok"


async def test_models_do_not_get_each_others_answers(tmp_path: Path) -> None:
    """An answer is for the model, address and provider that gave it."""
    recall = Recall(store=AnswerStore(tmp_path, 2**20), writes=True, flights=Flights())
    first, second = ListedModel("one"), ListedModel("two")
    assert (await Recalling(first, recall, {"address": "a"}).complete(ASK)).text == "one"
    assert (await Recalling(second, recall, {"address": "b"}).complete(ASK)).text == "two"


async def test_a_streamed_request_is_always_made(tmp_path: Path) -> None:
    """Who wants the text as it comes gets it from the model."""
    model = _recalling(ListedModel("one", "two"), store=AnswerStore(tmp_path, 2**20), writes=True, flights=Flights())
    streamed = replace(ASK, on_text=lambda delta: None)
    assert [(await model.complete(streamed)).text for _ in range(2)] == ["one", "two"]
