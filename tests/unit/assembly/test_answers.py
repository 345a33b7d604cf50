"""Answers against types and schemas."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import signal
import time
from typing import Any, Literal

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from rlm_kernel.assembly import answers
from rlm_kernel.assembly.answers import LONGEST, SchemaAnswer, TypedAnswer
from rlm_kernel.assembly.asked import Asked
from rlm_kernel.controller.checked import Checked
from rlm_kernel.errors import ConfigError, EmptyQuestion
from tests.support.sinks import Events


class Person(BaseModel):
    """A model."""

    name: str
    age: int = 0


@dataclasses.dataclass
class Point:
    """A dataclass."""

    x: float


class Row(TypedDict):
    """A typed dict."""

    n: int


SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


@pytest.mark.parametrize(
    ("kind", "answer", "text", "value"),
    [
        (Person, '{"name": "Ann", "age": 3}', '{"name": "Ann", "age": 3}', Person(name="Ann", age=3)),
        (Person, '```json\n{"name": "Ann"}\n```', '{"name": "Ann"}', Person(name="Ann")),
        (Point, ' {"x": 1}\n', '{"x": 1}', Point(1.0)),
        (Row, '{"n": 2}', '{"n": 2}', {"n": 2}),
        (list[int], "[1, 2]", "[1, 2]", [1, 2]),
        (datetime.date, "2026-01-02", '"2026-01-02"', datetime.date(2026, 1, 2)),
        (Literal["yes", "no"], "yes", '"yes"', "yes"),
        (str | None, "42", '"42"', "42"),
        (bool, "true", "true", True),
    ],
)
def test_an_answer_of_a_type(kind: Any, answer: str, text: str, value: object) -> None:
    """JSON becomes an object of the type; a fence around it goes, and a bare word may stand for a text."""
    check = TypedAnswer[Any](kind)
    assert check.fitting(answer) == text
    assert check.value(text) == value


@pytest.mark.parametrize(
    ("kind", "answer", "problem"),
    [
        (Person, "Ann is 3.", "it is not JSON"),
        (Person, '{"age": "old"}', "name: Field required\nage: Input should be a valid integer"),
        (list[int], "[" * 100_000, "it is nested too deeply"),
        (float, "many", "it is not JSON"),
        (int, "9" * 5_000, "Exceeds the limit"),
        (int, "```" + " " * 500_000 + "x", "it is not JSON"),
    ],
)
def test_an_answer_that_does_not_fit_a_type(kind: Any, answer: str, problem: str) -> None:
    """The model is told what is wrong, and where."""
    with pytest.raises(ValueError, match=problem):
        TypedAnswer[Any](kind).fitting(answer)


@pytest.mark.parametrize(
    ("schema", "answer", "problem"),
    [
        (SCHEMA, '{"a": "x"}', r"\$\.a: 'x' is not of type 'integer'"),
        (SCHEMA, "{}", r"\$: 'a' is a required property"),
        (SCHEMA, '{"a": NaN}', "NaN is no number in JSON"),
        ({"$ref": "#"}, "1", "it is nested too deeply"),
        ({"type": "string", "format": "date"}, '"soon"', "is not a 'date'"),
        ({"uniqueItems": True}, '[{"a": [1]}, {"a": [1.0]}]', "its items are not unique"),
        ({"items": {"type": "string"}}, str(list(range(99))), "\nand more$"),
        ({"type": "string"}, '"' + "x" * LONGEST + '"', "are the most that are taken"),
    ],
)
def test_an_answer_that_does_not_fit_a_schema(schema: dict[str, Any], answer: str, problem: str) -> None:
    """What is wrong is told, in bounded length."""
    with pytest.raises(ValueError, match=problem) as caught:
        SchemaAnswer(schema).fitting(answer)
    assert len(str(caught.value)) < 4_000


def test_a_schema_of_any_draft() -> None:
    """An older draft's words keep their meaning, and references within the schema work."""
    old: dict[str, Any] = {"$schema": "http://json-schema.org/draft-04/schema#", "type": "number", "maximum": 3}
    assert SchemaAnswer(old | {"exclusiveMaximum": True}).fitting("2.5") == "2.5"
    with pytest.raises(ValueError, match="3"):
        SchemaAnswer(old | {"exclusiveMaximum": True}).fitting("3")
    inner: dict[str, Any] = {"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}
    assert SchemaAnswer(inner).fitting("3") == "3"


def test_items_are_compared_in_one_pass() -> None:
    """An answer can't hold up the host by a long list whose items must differ: 1, true and "1" do, 1 and 1.0 do not."""
    check = SchemaAnswer({"uniqueItems": True})
    assert check.fitting('[1, true, "1", [1], [true], {"a": 1}, {"a": true}]')
    started = time.monotonic()
    check.fitting("[" + ",".join(f'{{"a":{number}}}' for number in range(50_000)) + "]")
    assert time.monotonic() - started < 20


BOTH = [{"properties": {"of": {"items": {"$ref": "#"}}, "is": {"const": kind}}} for kind in ("and", "or")]


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        ({"pattern": "^(a+)+$"}, f'"{"a" * 100}!"'),
        ({"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False}, f'{{"{"a" * 100}!": 1}}'),
        ({"anyOf": BOTH}, '{"of":[' * 100 + '{"is": 1}' + "]}" * 100),
    ],
)
def test_a_check_ends(monkeypatch: pytest.MonkeyPatch, schema: dict[str, Any], answer: str) -> None:
    """An answer that would take ages to check, by a regular expression or by choices within choices, does not fit."""
    monkeypatch.setattr(answers, "CHECK_SECONDS", 0.5)
    with pytest.raises(ValueError, match=r"longer than 0\.5 s to check"):
        SchemaAnswer(schema).fitting(answer)


async def test_a_check_ends_with_its_question() -> None:
    """After a cancel its process does not go on."""
    check = SchemaAnswer({"pattern": "^(a+)+$"})
    checking = asyncio.ensure_future(Checked(check, Events(), 1).take(f'"{"a" * 100}!"'))
    while check._running is None:
        await asyncio.sleep(0.01)
    checking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await checking
    assert await asyncio.to_thread(check._running.wait, 10) == -signal.SIGKILL


@pytest.mark.parametrize(
    "wrong",
    [object(), {"type": "objekt"}, {"$ref": "http://127.0.0.1:9/x"}, {"$ref": "#/$defs/none"}, {"pattern": "("}],
)
def test_what_is_no_type_is_refused(wrong: Any) -> None:
    """It is told before anything is started; a schema elsewhere is not fetched."""
    with pytest.raises(ConfigError, match=r"can't be an answer's type|is no JSON schema|which it does not hold"):
        Asked.of("Why?", wrong)


def test_what_is_asked() -> None:
    """Text needs no check, and an empty question can't be asked."""
    assert Asked.of("Why?").check is None
    assert Asked.of("Why?", str).check is None
    with pytest.raises(EmptyQuestion):
        Asked.of(" \n")
