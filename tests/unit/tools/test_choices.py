"""Types that hold themselves: which of their values can be checked in bounded time."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, JsonValue, TypeAdapter

from rlm_kernel.assembly.answers import TypedAnswer
from rlm_kernel.tools import HostTool
from rlm_kernel.tools.choices import Choices
from rlm_kernel.tools.tool import ToolRefused


class And(BaseModel):
    """One choice, which holds both."""

    of: list[And | Or | str]
    op: Literal["and"] = "and"


class Or(BaseModel):
    """Another choice, which holds both."""

    of: list[And | Or | str]
    op: Literal["or"] = "or"


class Told(BaseModel):
    """One choice of two that a word tells apart."""

    of: list[Annotated[Told | Apart, Field(discriminator="op")]]
    op: Literal["told"]


class Apart(BaseModel):
    """The other one."""

    of: list[Annotated[Told | Apart, Field(discriminator="op")]]
    op: Literal["apart"]


class Tree(BaseModel):
    """What holds itself, without a choice."""

    left: Tree | None = None
    right: Tree | None = None


def nested(depth: int, leaf: Any) -> Any:
    """Return objects within each other."""
    value = leaf
    for _ in range(depth):
        value = {"of": [value]}
    return value


@pytest.mark.parametrize(
    ("kind", "bound"), [(And, True), (list[list[And]], True), (Told, False), (Tree, False), (JsonValue, False)]
)
def test_only_choices_within_choices_are_bounded(kind: Any, bound: bool) -> None:
    """A word that tells the branches apart, and branches that no value can be both of, make it cheap at any depth."""
    choices = Choices(TypeAdapter(kind).json_schema())
    assert choices.bear(nested(12, "x"))
    assert choices.bear(nested(300, "x")) is not bound
    assert choices.bear(nested(10, ["x"] * 1_000)) is not bound


def test_a_hostile_value_is_refused_before_it_is_checked() -> None:
    """As an answer and as a tool's argument; without the bound this would take longer than the world is old."""

    def tool(tree: And) -> None:
        """Do nothing."""

    text = json.dumps(nested(60, 5))
    with pytest.raises(ValueError, match="nested too deeply"):
        TypedAnswer(And).fitting(text)
    with pytest.raises(ToolRefused, match="nested too deeply"):
        HostTool.of(tool).read(f'{{"tree": {text}}}')
    assert TypedAnswer(And).value(TypedAnswer(And).fitting(json.dumps(nested(5, "x")))).of
    assert HostTool.of(tool).read(f'{{"tree": {json.dumps(nested(5, "x"))}}}')["tree"].of
