"""Host tools as the kernel has them: functions by data, which the host runs."""

import json
from inspect import Parameter, Signature
from typing import Any

from . import questions
from .subcalls import LLMQueryError

_KINDS = {"either": Parameter.POSITIONAL_OR_KEYWORD, "keyword": Parameter.KEYWORD_ONLY}


class ToolError(Exception):
    """A tool has no result."""


ToolError.__module__ = "__main__"  # as the model's code knows it


class _Text:
    """Shows itself as a text without quotes."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


class Tool:
    """A function that runs on the host, with arguments and a result that are JSON values."""

    def __init__(self, tool: dict[str, Any]) -> None:
        """Make it of what the host announced."""
        self._tool = tool["name"]
        self.__name__ = self.__qualname__ = self._tool
        self.__doc__ = tool["doc"]
        parameters = [_parameter(each) for each in tool["parameters"]]
        returns = tool["returns"]
        self.__signature__ = Signature(
            parameters, return_annotation=Signature.empty if returns is None else _Text(returns)
        )

    def __repr__(self) -> str:
        return f"<tool {self.__name__}{self.__signature__}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it. Raise `TypeError` for arguments that can't be sent, `ToolError` where there is no result."""
        return _result(questions.call("tool", self._request(args, kwargs)))

    def _request(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, str]:
        arguments = self.__signature__.bind(*args, **kwargs).arguments
        try:
            return {"tool": self._tool, "arguments": json.dumps(arguments, ensure_ascii=False)}
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(f"{self._tool} takes JSON values: {error}") from None


class AwaitableTool(Tool):
    """The same, to be awaited; its name has an `a` before it."""

    def __init__(self, tool: dict[str, Any]) -> None:
        """Make it of what the host announced."""
        super().__init__(tool)
        self.__name__ = self.__qualname__ = f"a{self._tool}"

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it, as `Tool` does."""
        return _result(await questions.acall("tool", self._request(args, kwargs)))


def offered(tools: list[dict[str, Any]]) -> dict[str, Tool]:
    """Return the functions for what the host announced, by name."""
    functions = [kind(tool) for tool in tools for kind in (Tool, AwaitableTool)]
    return {function.__name__: function for function in functions}


def _parameter(told: dict[str, Any]) -> Parameter:
    default = Parameter.empty if told["default"] is None else _Text(told["default"])
    return Parameter(told["name"], _KINDS[told["kind"]], default=default, annotation=_Text(told["type"]))


def _result(reply: str | BaseException) -> Any:
    if isinstance(reply, LLMQueryError):
        raise ToolError(str(reply)) from None
    if isinstance(reply, BaseException):
        raise reply
    return json.loads(reply)
