"""One host tool: a typed function, what a cell is told of it, and the check of what a cell gives it."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError, with_config
from pydantic_core import PydanticSerializationError, from_json
from typing_extensions import TypedDict

from rlm_kernel.errors import ConfigError
from rlm_kernel.tools.choices import TOO_MUCH, Choices
from rlm_kernel.types import JSON

MAX_RESULT = 4 * 1024 * 1024
"""Bytes of JSON that a tool may give back."""
DOC_CHARACTERS = 1_000
_MESSAGE_CHARACTERS = 2_000
_FAULTS_TOLD = 10
_KINDS: dict[Any, str] = {
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "either",
    inspect.Parameter.KEYWORD_ONLY: "keyword",
}
_OWN_WORDS = ("value_error", "assertion_error")
"""Faults in the words of a validator of the caller's, which may name anything of the host."""


class ToolError(Exception):
    """What a tool raises to let the cell read its message; of other errors a cell learns the class alone."""


class ToolRefused(Exception):
    """A tool was not run, or its result can't go to the cell; the message is for the cell."""


@dataclass(frozen=True, slots=True)
class HostTool:
    """A function that cells may call by `name`. Made with `HostTool.of`."""

    name: str
    doc: str
    function: Callable[..., Any]
    signature: inspect.Signature
    arguments: TypeAdapter[Any]
    result: TypeAdapter[Any]
    schema: dict[str, Any]
    choices: Choices

    @classmethod
    def of(cls, function: Callable[..., Any]) -> HostTool:
        """Make a tool of a function whose parameters all have types that pydantic knows. Raise `ConfigError`."""
        name: object = getattr(function, "__name__", None)
        if not isinstance(name, str):
            raise ConfigError(f"a tool is a function with a name, not {function!r:.100}")
        try:
            hints = typing.get_type_hints(function, include_extras=True)
            signature = _shown(inspect.signature(function, eval_str=True))
        except (NameError, TypeError, ValueError) as error:
            raise ConfigError(f"the types of the tool {name} can't be read: {error}") from None
        fields = {each.name: _type_of(name, each, hints) for each in signature.parameters.values()}
        try:
            arguments, result = _checked(name, fields), TypeAdapter(hints.get("return", Any))
            schema = arguments.json_schema()
        except (PydanticUserError, NameError, TypeError) as error:
            raise ConfigError(f"pydantic can't check the types of the tool {name}: {error}") from None
        doc = inspect.cleandoc(function.__doc__ or "")[:DOC_CHARACTERS]
        return cls(name, doc, function, signature, arguments, result, schema, Choices(schema))

    @property
    def is_async(self) -> bool:
        """Whether calling it gives something to await."""
        return inspect.iscoroutinefunction(self.function)

    def described(self) -> str:
        """Return what a model is told: how it is called, what it does, and the shape of what is no plain type."""
        parts = [f"`{self.name}{self.signature}`", self.doc]
        if "$defs" in self.schema:
            parts.append(f"JSON schema of its arguments: {json.dumps(self.schema, ensure_ascii=False)}")
        return ": ".join(filter(None, [parts[0], "\n".join(filter(None, parts[1:]))]))

    def announced(self) -> dict[str, JSON]:
        """Return what the kernel is told, so that the tool is a function there."""
        parameters: list[JSON] = [
            {
                "name": each.name,
                "kind": _KINDS[each.kind],
                "type": inspect.formatannotation(each.annotation),
                "default": None if each.default is each.empty else repr(each.default),
            }
            for each in self.signature.parameters.values()
        ]
        returns = self.signature.return_annotation
        told = None if returns is inspect.Signature.empty else inspect.formatannotation(returns)
        return {"name": self.name, "doc": self.doc, "parameters": parameters, "returns": told}

    def read(self, arguments: str) -> Mapping[str, Any]:
        """Return the arguments of a call from their JSON text. Raise `ToolRefused` for what does not fit."""
        with suppress(ValueError):  # what is no JSON is told by the check
            if not self.choices.bear(from_json(arguments)):
                raise ToolRefused(TOO_MUCH)
        try:
            values: Mapping[str, Any] = self.arguments.validate_json(arguments)
        except ValidationError as error:
            raise ToolRefused(_faults(error)) from None
        return values

    def write(self, value: Any) -> str:
        """Return a result as JSON text. Raise `ToolRefused` for what is none or is too long."""
        try:
            text = self.result.dump_json(value, warnings="error").decode()
        except (PydanticSerializationError, ValueError, RecursionError) as error:
            raise ToolRefused(f"the tool's result is not what its signature says ({type(error).__name__})") from None
        if len(text) > MAX_RESULT:
            raise ToolRefused(f"the tool's result has {len(text):,} characters, at most {MAX_RESULT:,} can be sent")
        return text


class _Default:
    """A default value that is not shown, as it may name something of the host."""

    def __repr__(self) -> str:
        return "..."


def _shown(signature: inspect.Signature) -> inspect.Signature:
    """Return a signature whose defaults are plain and short, or not shown."""
    plain = (bool, int, float, type(None), str)
    parameters = [
        each.replace(default=_Default())
        if each.default is not each.empty and not (type(each.default) in plain and len(repr(each.default)) <= 100)
        else each
        for each in signature.parameters.values()
    ]
    return signature.replace(parameters=parameters)


def _type_of(tool: str, parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Any:
    if parameter.kind not in _KINDS:
        raise ConfigError(f"the tool {tool} can't have the parameter {parameter}: each needs a name to be called by")
    if parameter.name not in hints:
        raise ConfigError(f"the parameter {parameter.name} of the tool {tool} has no type")
    required = parameter.default is parameter.empty
    return typing.Required[hints[parameter.name]] if required else typing.NotRequired[hints[parameter.name]]


def _checked(name: str, fields: Mapping[str, Any]) -> TypeAdapter[Any]:
    shape: Any = TypedDict(name, dict(fields))  # type: ignore[misc]
    return TypeAdapter(with_config(ConfigDict(extra="forbid"))(shape))


def _faults(error: ValidationError) -> str:
    """Say what is wrong with a call's arguments, in words of pydantic's own."""
    said = [
        f"{'.'.join(map(str, fault['loc'])) or 'arguments'}: "
        + ("is not valid" if fault["type"] in _OWN_WORDS else fault["msg"])
        for fault in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    more = f"; and {len(said) - _FAULTS_TOLD} more" if len(said) > _FAULTS_TOLD else ""
    return ("; ".join(said[:_FAULTS_TOLD]) + more)[:_MESSAGE_CHARACTERS]
