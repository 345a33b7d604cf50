"""What type checkers know of the public API: mypy reads this file, strictly."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any, assert_type, get_overloads

import pytest
from pydantic import BaseModel

from rlm_kernel import RLM, Contexts, RunHandle, RunResult, Session, SessionInThread, Table


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


def typed_contexts(rlm: RLM, texts: list[str], counts: dict[str, int], rows: list[dict[str, str | None]]) -> None:
    """Nor here: lists and dicts of any element type may be contexts, alone and by name."""
    nested: dict[str, list[dict[str, float]]] = {}
    rlm.completion("?", texts)
    rlm.completion("?", counts)
    rlm.completion("?", rows)
    rlm.completion("?", (1, 2))
    rlm.session(nested)
    rlm.completion("?", Contexts(texts=texts, rows=rows, orders=Table(rows), note="text", scan=b"", path=Path("file")))


WAYS = [RLM.completion, RLM.acompletion, RLM.start, RLM.start_in_thread, Session.ask, SessionInThread.ask]


@pytest.mark.parametrize("method", WAYS)
def test_every_way_to_ask_takes_types(method: Callable[..., object]) -> None:
    """Each has an overload for text, for a type and for anything else, such as a schema."""
    types = [signature(overload).parameters.get("answer_type") for overload in get_overloads(method)]
    assert [found and found.annotation for found in types] == [None, "type[T]", "Any"]
