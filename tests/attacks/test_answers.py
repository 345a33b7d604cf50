"""Hostile answers where the caller asked for a type: the check runs on the host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlm_kernel import RLM, Settings
from rlm_kernel.errors import AnswerInvalid
from tests.docker.test_rlm import cell, script, settings

__all__ = ["settings"]

SCHEMA: dict[str, Any] = {"type": "array", "uniqueItems": True, "items": {"type": ["object", "string"]}}
HOSTILE = {
    "nested": "value = []\nfor _ in range(500): value = [value]\nFINAL(value)",
    "nested text": "FINAL('[' * 200_000)",
    "no number": "FINAL([float('nan'), float('inf')])",
    "long": "FINAL(['x' * 3_000_000])",
    "digits": "FINAL('9' * 100_000)",
    "many problems": "FINAL(list(range(20_000)))",
    "fence": "FINAL('```' + ' ' * 1_000_000 + 'x')",
    "alike": "FINAL([{'a': 1, 'b': 2}, {'b': 2.0, 'a': 1}])",
}


@pytest.mark.parametrize("kind", [SCHEMA, list[str]])
async def test_a_hostile_answer_is_an_invalid_one(settings: Settings, tmp_path: Path, kind: Any) -> None:
    """Nesting, size and odd numbers end the question with a typed error, quickly; not the host.

    The session goes on after each.
    """
    turns = [cell(code) for code in HOSTILE.values() for _ in range(2)]
    rlm = RLM(script(tmp_path, *turns, cell("FINAL(['fine'])")), settings=settings)
    async with rlm, rlm.session("text") as session:
        for name in HOSTILE:
            with pytest.raises(AnswerInvalid) as caught:
                await session.ask(name, answer_type=kind)
            assert len(str(caught.value)) < 5_000
        assert (await session.ask("Well?", answer_type=kind)).value == ["fine"]
