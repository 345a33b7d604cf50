"""What can be a host tool, what a cell is told of it, and what a cell can give it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, Field

from rlm_kernel.errors import ConfigError
from rlm_kernel.tools import HostTool
from rlm_kernel.tools.tool import DOC_CHARACTERS, MAX_RESULT, ToolRefused


class Order(BaseModel):
    """What is ordered."""

    item: str
    count: Annotated[int, Field(ge=1)] = 1


def fail(value: str) -> str:
    """Name something of the host's."""
    raise ValueError("no /home/someone/secret here")


def find(
    city: str, limit: int = 10, *, kind: Literal["a", "b"] = "a", since: date | None = None
) -> list[dict[str, Any]]:
    """Find orders.

    The newest first.
    """
    return [{"city": city, "limit": limit, "kind": kind, "since": since}]


def order(order: Order, notes: list[str]) -> Order:
    """Order."""
    return order


def checked(text: Annotated[str, AfterValidator(fail)]) -> str:
    """Check."""
    return text


def hidden(where: Path = Path("/home/someone")) -> str:
    """Look."""
    return str(where)


def test_what_is_told_of_a_tool() -> None:
    """The model is told signature, docstring and the shape of models; the kernel what it needs for a function."""
    tool = HostTool.of(find)
    assert tool.described() == (
        "`find(city: str, limit: int = 10, *, kind: Literal['a', 'b'] = 'a', since: datetime.date | None = None) "
        "-> list[dict[str, typing.Any]]`: Find orders.\n\nThe newest first."
    )
    assert tool.announced()["parameters"] == [
        {"name": "city", "kind": "either", "type": "str", "default": None},
        {"name": "limit", "kind": "either", "type": "int", "default": "10"},
        {"name": "kind", "kind": "keyword", "type": "Literal['a', 'b']", "default": "'a'"},
        {"name": "since", "kind": "keyword", "type": "datetime.date | None", "default": "None"},
    ]
    assert '"minimum": 1' in HostTool.of(order).described()


def test_a_default_that_is_no_plain_value_is_not_shown() -> None:
    """It may be a path of the host's."""
    tool = HostTool.of(hidden)
    assert "/home" not in tool.described() + str(tool.announced())
    assert "= ..." in tool.described()


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        ('{"city": "Lima"}', {"city": "Lima"}),
        (
            '{"city": "Lima", "limit": "7", "since": "2026-01-02"}',
            {"city": "Lima", "limit": 7, "since": date(2026, 1, 2)},
        ),
    ],
)
def test_arguments_become_what_the_types_say(arguments: str, values: dict[str, Any]) -> None:
    """Text that stands for a number or a day is one; what is left out stays out, so that the default counts."""
    assert HostTool.of(find).read(arguments) == values


@pytest.mark.parametrize(
    ("function", "arguments", "says"),
    [
        (find, "{}", "city: Field required"),
        (find, '{"city": 1}', "city: Input should be a valid string"),
        (find, '{"city": "x", "kind": "c"}', "kind: Input should be 'a' or 'b'"),
        (find, '{"city": "x", "self": 1, "__class__": 2}', "self: Extra inputs are not permitted"),
        (find, '["x"]', "arguments: Input should be an object"),
        (find, "not json", "arguments: Invalid JSON"),
        (find, '{"city": ' + "[" * 100_000, "arguments: Invalid JSON: recursion limit exceeded"),
        (find, '{"city": "x", "limit": ' + "9" * 5000 + "}", "number out of range"),
        (order, '{"order": {"item": "x", "count": 0}, "notes": []}', "order.count: Input should be greater than"),
        (order, '{"order": {"item": "x"}, "notes": [' + "1," * 1000 + "1]}", "and 991 more"),
        (checked, '{"text": "x"}', "text: is not valid"),
    ],
)
def test_arguments_that_do_not_fit(function: Callable[..., Any], arguments: str, says: str) -> None:
    """They are refused in bounded words, which never are a validator's own."""
    with pytest.raises(ToolRefused) as caught:
        HostTool.of(function).read(arguments)
    assert says in str(caught.value)
    assert "/home" not in str(caught.value)
    assert len(str(caught.value)) <= 2_000


@pytest.mark.parametrize(
    ("returns", "value", "text"),
    [
        (int, 3, "3"),
        (Order, Order(item="x"), '{"item":"x","count":1}'),
        (Any, {"when": date(2026, 1, 2), "set": {1}}, '{"when":"2026-01-02","set":[1]}'),
        (None, None, "null"),
    ],
)
def test_a_result_is_json(returns: Any, value: Any, text: str) -> None:
    """Models, dates and sets too."""
    assert HostTool.of(returning(returns)).write(value) == text


@pytest.mark.parametrize("value", ["three", object(), b"\xff", "x" * MAX_RESULT])
def test_a_result_that_can_not_go(value: Any) -> None:
    """One of another type, one that is no JSON, and one that is too long are failures in words without the value."""
    with pytest.raises(ToolRefused, match="result"):
        HostTool.of(returning(int if value == "three" else Any)).write(value)


def returning(kind: Any) -> Callable[..., Any]:
    """Return a function with a return type."""

    def tool() -> Any:
        """Do nothing."""

    tool.__annotations__["return"] = kind
    return tool


def test_what_can_not_be_a_tool() -> None:
    """The error names the function and what is missing."""

    def untyped(x) -> None:  # type: ignore[no-untyped-def]
        """Have a parameter without a type."""

    def many(*values: int) -> None:
        """Take as many as there are."""

    def positional(value: int, /) -> None:
        """Take one without a name."""

    def strange(value: Callable[[int], Any], other: HostTool) -> None:
        """Take what is no data."""

    for function, says in (
        (untyped, "the parameter x of the tool untyped has no type"),
        (many, "the tool many can't have the parameter"),
        (positional, "the tool positional can't have the parameter"),
        (strange, "pydantic can't check the types of the tool strange"),
        ("text", "a tool is a function with a name"),
    ):
        with pytest.raises(ConfigError, match=says):
            HostTool.of(function)  # type: ignore[arg-type]


def test_a_long_docstring_is_cut() -> None:
    """What a kernel and a model are told has a bound."""

    def talkative() -> None:
        """Talk."""

    talkative.__doc__ = "x" * 100_000
    assert len(HostTool.of(talkative).described()) < DOC_CHARACTERS + 100
