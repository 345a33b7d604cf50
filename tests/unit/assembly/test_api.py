"""What type checkers know of the public API: mypy reads this file, strictly."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any, assert_type, get_overloads

import pytest
from pydantic import BaseModel

import rlm_kernel
from rlm_kernel import RLM, Contexts, ReplayReport, RunHandle, RunResult, Session, SessionInThread, Table


class Person(BaseModel):
    """A type for answers."""

    name: str


async def typed(rlm: RLM, session: Session, in_thread: SessionInThread) -> None:
    """Nothing here is run: the types say what a result's value is."""
    assert_type(rlm.completion("?", "text"), RunResult[str])
    assert_type(rlm.completion("?", "text", answer_type=Person), RunResult[Person])
    assert_type(rlm.completion("?", "text", answer_type=Person).value, Person)
    assert_type(rlm.completion("?", "text", answer_type=list[int]).value, list[int])
    assert_type(rlm.completion("?", "text", answer_type={"type": "object"}), RunResult[Any])
    assert_type((await rlm.acompletion("?", "text", answer_type=Person)).value, Person)
    assert_type(rlm.start("?", "text", answer_type=Person), RunHandle[Person])
    assert_type((await rlm.start("?", "text").result()).value, str)
    with rlm.start_in_thread("?", "text", answer_type=Person) as run:
        assert_type(run.result().value, Person)
    assert_type((await session.ask("?", answer_type=Person)).value, Person)
    assert_type(in_thread.ask("?", answer_type=Person).value, Person)
    assert_type(in_thread.ask("?").value, str)
    assert_type(rlm.replay("last"), ReplayReport)
    assert_type(await rlm.afork("last", at=1), RunResult[Any])


def typed_contexts(rlm: RLM, texts: list[str], counts: dict[str, int], rows: list[dict[str, str | None]]) -> None:
    """Nor here: lists and dicts of any element type may be contexts, alone and by name."""
    nested: dict[str, list[dict[str, float]]] = {}
    rlm.completion("?", texts)
    rlm.completion("?", counts)
    rlm.completion("?", rows)
    rlm.completion("?", (1, 2))
    rlm.session(nested)
    rlm.completion("?", Contexts(texts=texts, rows=rows, orders=Table(rows), note="text", scan=b"", path=Path("file")))


def test_every_public_name_is_there() -> None:
    """Names are imported when they are used; each that is promised can be."""
    assert [name for name in rlm_kernel.__all__ if getattr(rlm_kernel, name, None) is None] == []


@pytest.mark.parametrize("name", ["replay", "resume", "fork", "completion"])
def test_what_is_not_async_takes_what_is(name: str) -> None:
    """A method and its async twin, whose name has an `a` in front, have the same parameters."""
    assert signature(getattr(RLM, name)).parameters == signature(getattr(RLM, f"a{name}")).parameters


WAYS = [RLM.completion, RLM.acompletion, RLM.start, RLM.start_in_thread, Session.ask, SessionInThread.ask]


@pytest.mark.parametrize("method", WAYS)
def test_every_way_to_ask_takes_types(method: Callable[..., object]) -> None:
    """Each has an overload for text, for a type and for anything else, such as a schema."""
    types = [signature(overload).parameters.get("answer_type") for overload in get_overloads(method)]
    assert [found and found.annotation for found in types] == [None, "type[T]", "Any"]
