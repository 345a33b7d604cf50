"""The tools of a recorded run, known by what was told of them: no function stands behind them."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from inspect import Parameter, Signature
from typing import Any, Literal

import msgspec

from rlm_kernel.errors import ConfigError, RecordingDamaged, ReplayMismatch
from rlm_kernel.sandbox.variables import check_names
from rlm_kernel.tools import Toolbox
from rlm_kernel.tools.toolbox import MAX_ANNOUNCED, MAX_TOOLS
from rlm_kernel.types import JSON


class _Parameter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    kind: Literal["either", "keyword"]
    type: str
    default: str | None


class _Announced(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    doc: str
    parameters: list[_Parameter]
    returns: str | None


class _Text:
    """Shows itself as a text without quotes."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _described(tool: _Announced) -> str:
    parameters = [
        Parameter(
            each.name,
            Parameter.KEYWORD_ONLY if each.kind == "keyword" else Parameter.POSITIONAL_OR_KEYWORD,
            default=Parameter.empty if each.default is None else _Text(each.default),
            annotation=_Text(each.type),
        )
        for each in tool.parameters
    ]
    returns = Signature.empty if tool.returns is None else _Text(tool.returns)
    return ": ".join(filter(None, [f"`{tool.name}{Signature(parameters, return_annotation=returns)}`", tool.doc]))


class AnnouncedTools(Toolbox):
    """Announces recorded tools to the kernel; a call is for the recording to answer."""

    def __init__(self, announced: Sequence[Mapping[str, Any]]) -> None:
        """Raise `RecordingDamaged` for what no run announces."""
        try:
            tools = msgspec.convert(announced, list[_Announced])
            self._names = [tool.name for tool in tools]
            check_names(self.variables, "tool")
            self._described = tuple(map(_described, tools))
        except (msgspec.ValidationError, ConfigError, ValueError) as error:
            raise RecordingDamaged(f"the recorded tools are not what a run announces: {error}") from None
        if len(set(self._names)) < len(tools) or len(tools) > MAX_TOOLS or len(json.dumps(announced)) > MAX_ANNOUNCED:
            raise RecordingDamaged(
                "the recorded tools are not what a run announces: they are too many, or one is twice"
            )
        self._announced: tuple[dict[str, JSON], ...] = tuple(msgspec.to_builtins(tool) for tool in tools)
        super().__init__()

    @property
    def names(self) -> Container[str]:
        """What each is called."""
        return self._names

    @property
    def variables(self) -> tuple[str, ...]:
        """What the kernel has of each tool."""
        return tuple(name for tool in self._names for name in (tool, f"a{tool}"))

    def announced(self) -> tuple[dict[str, JSON], ...]:
        """Return what the kernel was told of each tool."""
        return self._announced

    def described(self) -> tuple[str, ...]:
        """Return what the model was told of each tool, without schemas: no model reads this one."""
        return self._described

    def refusal(self, name: str) -> str | None:
        """Take calls of the tools there were."""
        return None if name in self._names else f"there is no tool {name[:100]!r}"

    async def call(self, name: str, arguments: str) -> str:
        """Raise `ReplayMismatch`."""
        raise ReplayMismatch(f"the tool {name} is not called in a replay")
