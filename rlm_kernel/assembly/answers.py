"""Answers of a type that the caller asked for: what the model is told of it, and the check of what it gives."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Generic, NoReturn, TypeVar, cast

import jsonschema
from jsonschema.validators import validator_for
from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012, specification_with

from rlm_kernel.assembly import schema_check
from rlm_kernel.errors import ConfigError
from rlm_kernel.tools.choices import TOO_MUCH, Choices
from rlm_kernel.types import JSON

T = TypeVar("T")

LONGEST = 2**20
"""Characters of the longest answer that is checked."""
MOST_PROBLEMS, PROBLEM_CHARACTERS = 10, 300
"""How many problems the model is told of one answer, and how much of each."""
CHECK_SECONDS = 20.0
"""How long the check against a schema may take; what an answer can make of one has no other bound."""
CHECK_MEMORY = 2 * 2**30
_FENCED = re.compile(r"\s*```[ \t]*+(?:json[ \t]*+)?\n(.*)\n[ \t]*```\s*", re.DOTALL | re.IGNORECASE)


class TypedAnswer(Generic[T]):
    """A Python type that Pydantic knows: a model, a dataclass, a `TypedDict`, `list[int]`, and so on."""

    def __init__(self, kind: type[T]) -> None:
        """Raise `ConfigError` for a type that has no JSON schema."""
        try:
            self._adapter = TypeAdapter(kind)
            self.schema: JSON = self._adapter.json_schema()
        except (PydanticSchemaGenerationError, PydanticUserError) as error:
            raise ConfigError(f"{kind!r} can't be an answer's type: {str(error).splitlines()[0]}") from None
        self._choices = Choices(self._adapter.json_schema())

    def fitting(self, answer: str) -> str:
        """Return `answer` as JSON text. Raise `ValueError`, in words for the model, if it does not fit."""
        text = unfenced(answer)
        try:
            value = _parsed(text)
        except ValueError:
            bare = json.dumps(text)  # a text, a date or one word of a choice may stand there without its quotes
            if self._fits(bare):
                return bare
            raise
        if not self._choices.bear(value):
            raise ValueError(TOO_MUCH)
        if not self._fits(text) and self._fits(json.dumps(text)):
            return json.dumps(text)
        self.value(text)
        return text

    def stop(self) -> None:
        """Do nothing: the check takes bounded time."""

    def value(self, answer: str) -> T:
        """Return what `answer`, as `fitting` gave it, stands for."""
        try:
            return self._adapter.validate_json(answer)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False, include_input=False)
            _refuse((".".join(map(str, problem["loc"])), problem["msg"]) for problem in problems)

    def _fits(self, text: str) -> bool:
        try:
            self.value(text)
        except ValueError:
            return False
        return True


class SchemaAnswer:
    """A JSON schema of any draft; its values are JSON. Nothing outside of it is ever fetched."""

    def __init__(self, schema: Mapping[str, JSON]) -> None:
        """Raise `ConfigError` for what is no JSON schema, or refers to what it does not hold."""
        self.schema: dict[str, JSON] = dict(schema)
        self._running: subprocess.Popen[str] | None = None
        self._stopped = False
        checker = validator_for(schema, default=jsonschema.Draft202012Validator)
        try:
            checker.check_schema(self.schema)
            _check_references(self.schema)
        except jsonschema.SchemaError as error:
            raise ConfigError(f"the answer's schema is no JSON schema: {error.json_path}: {error.message}") from None
        except Unresolvable as error:
            raise ConfigError(f"the answer's schema refers to {error.ref!r}, which it does not hold") from None

    def fitting(self, answer: str) -> str:
        """Return `answer` as JSON text. Raise `ValueError`, in words for the model, if it does not fit."""
        text = unfenced(answer)
        _parsed(text)
        problems = self._problems(text)
        if problems:
            _refuse(problems)
        return text

    def value(self, answer: str) -> JSON:
        """Return what `answer`, as `fitting` gave it, stands for."""
        return _parsed(answer)

    def stop(self) -> None:
        """End a check that is under way in a thread."""
        self._stopped = True
        if self._running is not None:
            self._running.kill()

    def _problems(self, text: str) -> list[tuple[str, str]]:
        """Return what is wrong with a JSON text, in a process that can be ended."""
        given = {"path": sys.path, "schema": self.schema, "answer": text, "memory": CHECK_MEMORY}
        given |= {"most": MOST_PROBLEMS + 1, "characters": PROBLEM_CHARACTERS}
        command = [sys.executable, "-I", schema_check.__file__]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:  # noqa: S603 - our own
            self._running = process
            if self._stopped:
                process.kill()
            try:
                said, wrong = process.communicate(json.dumps(given), timeout=CHECK_SECONDS)
            except subprocess.TimeoutExpired:
                raise ValueError(f"it takes longer than {CHECK_SECONDS:g} s to check") from None
            finally:
                process.kill()
        if process.returncode < 0:
            raise ValueError("it can't be checked: that ended the program which did")
        if process.returncode:
            raise ConfigError(f"answers can't be checked with {sys.executable}: {wrong.strip()[-500:]}")
        problems: list[tuple[str, str]] = json.loads(said)
        return problems


class RecordedAnswer(SchemaAnswer):
    """A JSON schema whose answers were checked once, perhaps against a type that says more: that counts again."""

    def __init__(self, schema: Mapping[str, JSON], rejected: Mapping[str, str], given: str | None) -> None:
        """`rejected` says what was wrong with answers, `given` is the one that was taken. Raise `ConfigError`."""
        super().__init__(schema)
        self._rejected = rejected
        self._given = given

    def fitting(self, answer: str) -> str:
        """Judge `answer` as it was; one that is new, by the schema."""
        if answer in self._rejected:
            raise ValueError(self._rejected[answer])
        text = unfenced(answer)
        if self._given is not None and self._given in (text, json.dumps(text)):
            return self._given
        return super().fitting(answer)


def unfenced(answer: str) -> str:
    """Return `answer` without the fence that may stand around all of it."""
    match = _FENCED.fullmatch(answer)
    return (match[1] if match else answer).strip()


def _parsed(text: str) -> JSON:
    if len(text) > LONGEST:
        raise ValueError(f"it has {len(text):,} characters, and {LONGEST:,} are the most that are taken")

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no number in JSON")

    try:
        return cast(JSON, json.loads(text, parse_constant=refuse))
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse(problems: Iterable[tuple[str, str]]) -> NoReturn:
    said = [f"{where or '$'}: {what}"[:PROBLEM_CHARACTERS] for where, what in islice(problems, MOST_PROBLEMS + 1)]
    more = ["and more"] if len(said) > MOST_PROBLEMS else []
    raise ValueError("\n".join([*said[:MOST_PROBLEMS], *more]))


def _check_references(schema: dict[str, JSON]) -> None:
    resource = specification_with(str(schema.get("$schema", "")), default=DRAFT202012).create_resource(schema)
    registry: Registry[Any] = Registry().with_resource("", resource)
    resolver = registry.resolver_with_root(resource)
    for reference in _references(schema):
        resolver.lookup(reference)


def _references(schema: JSON) -> Iterator[str]:
    match schema:
        case dict():
            for key, value in schema.items():
                if key in ("$ref", "$dynamicRef") and isinstance(value, str):
                    yield value
                else:
                    yield from _references(value)
        case list():
            for value in schema:
                yield from _references(value)
