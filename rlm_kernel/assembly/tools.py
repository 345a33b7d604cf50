"""Host tools for a run: checked once, with limits of its own in each run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rlm_kernel.config import Settings
from rlm_kernel.errors import ConfigError
from rlm_kernel.sandbox.stored import Stored
from rlm_kernel.sandbox.variables import check_names
from rlm_kernel.tools import HostTool, Toolbox, ToolLimits


def checked_tools(functions: Iterable[Callable[..., Any]]) -> tuple[HostTool, ...]:
    """Make tools of `functions`. Raise `ConfigError` for one that can't be, and for names that stand for others."""
    tools = tuple(HostTool.of(function) for function in functions)
    variables = Toolbox(tools).variables
    check_names(variables, "tool")
    if twice := sorted({name for name in variables if variables.count(name) > 1}):
        raise ConfigError(f"two tools would be called {twice[0]!r}: each is also there with an a before its name")
    return tools


def toolbox(tools: Sequence[HostTool], stored: Stored, settings: Settings) -> Toolbox:
    """Return a run's own tools. Raise `ConfigError` for a context that has the name of one."""
    limits = ToolLimits(
        timeout=settings.tool_timeout, calls=settings.max_tool_calls, parallel=settings.max_parallel_tools
    )
    box = Toolbox(tools, limits)
    if taken := sorted({part.name for part in stored.parts} & {*box.variables}):
        raise ConfigError(f"the context {taken[0]!r} has the name of a tool: give one of them another name")
    return box
