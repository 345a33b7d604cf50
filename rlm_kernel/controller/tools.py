"""Native tool calling: the one tool that a model is offered, and what its calls of it mean."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace

from rlm_kernel.controller.reply import Cell
from rlm_kernel.controller.shown import cut
from rlm_kernel.text import encodable
from rlm_kernel.types import Tool, ToolCall

PYTHON = Tool(
    name="python",
    description=(
        "Run a cell in the live Python session that holds `context` and the functions of the system prompt. "
        "Returns what the cell printed. Variables live on from cell to cell."
    ),
    parameters={
        "type": "object",
        "properties": {"code": {"type": "string", "description": "The cell's Python code."}},
        "required": ["code"],
        "additionalProperties": False,
    },
)
CUT_OFF = (
    "This call was not run: your reply was cut off before its end. Write less code in one call; a long text can be "
    "built in a variable over several calls."
)
_HOW = 'Call it again with arguments such as {"code": "print(len(context))"}.'
_QUOTED = 200
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_NAME = 64


def read_calls(calls: Sequence[ToolCall], finish_reason: str) -> tuple[Cell, ...]:
    """Return a reply's calls as cells, each with what is wrong with it; of a reply that was cut off the last one is."""
    cells = [_cell(call) for call in calls]
    if cells and finish_reason == "length":
        cells[-1] = replace(cells[-1], problem=CUT_OFF)
    return tuple(cells)


def sendable(calls: Sequence[ToolCall]) -> tuple[ToolCall, ...]:
    """Return calls as they can go back, as servers refuse conversations with what some models write.

    That are names with other characters than a tool's may have, and arguments that are not strictly a JSON object.
    """
    return tuple(
        ToolCall(call.id, _NOT_IN_NAMES.sub("_", call.name)[:_LONGEST_NAME] or "_", _strict(call.arguments), call.extra)
        for call in calls
    )


def _cell(call: ToolCall) -> Cell:
    if call.name != PYTHON.name:
        return Cell("", call.id, _unknown(call.name))
    given = _parsed(call.arguments)
    if isinstance(given, ValueError):
        began = cut(encodable(call.arguments), _QUOTED)
        problem = f"This call was not run: its arguments are not valid JSON ({given}). They began: {began!r}. {_HOW}"
        return Cell("", call.id, problem)
    code = given.get("code") if isinstance(given, dict) else None
    if not isinstance(code, str) or not code.strip():
        return Cell("", call.id, f"This call was not run: its `code` is missing or empty. {_HOW}")
    return Cell(encodable(code), call.id)


def _unknown(name: str) -> str:
    name = cut(encodable(name), 60)
    return (
        f"This call was not run: there is no tool {name!r}. The only tool is `python`; llm_query, FINAL and the others "
        f"are functions that its code calls. {_HOW}"
    )


def _strict(arguments: str) -> str:
    given = _parsed(arguments)
    if not isinstance(given, dict):
        return "{}"
    try:
        json.loads(arguments)
    except ValueError:  # empty, or with line ends as they are
        return json.dumps(given)
    return arguments


def _parsed(arguments: str) -> object:
    """Return the arguments, in which line ends may stand as they are, or the `ValueError` of what is no JSON."""
    try:
        return json.loads(arguments, strict=False) if arguments.strip() else {}
    except ValueError as error:
        return error
    except RecursionError:
        return ValueError("it is nested too deeply")
