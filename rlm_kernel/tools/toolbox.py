"""The tools of one run, with their limits: how many calls, how many at once, and for how long."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rlm_kernel.errors import ConfigError
from rlm_kernel.loops import soon
from rlm_kernel.tools.tool import HostTool, ToolError, ToolRefused
from rlm_kernel.types import JSON

MAX_TOOLS = 50
MAX_ANNOUNCED = 24_000
"""Bytes that a kernel is told of all tools together."""
CANCEL_SECONDS = 5.0
"""How long a cancelled tool has to end, before it is let go of."""
_MESSAGE_CHARACTERS = 2_000
_TOLD_EACH, _TOLD_ALL = 2_000, 16_000


class ToolCallFailed(Exception):
    """A tool's call has no result: `told` is for the cell, the message says what happened."""

    def __init__(self, told: str, error: str, message: str) -> None:
        super().__init__(message)
        self.told = told
        self.error = error


class Tools(Protocol):
    """What answers the tool calls of a session's cells."""

    @property
    def names(self) -> Container[str]:
        """What each is called."""

    def refusal(self, name: str) -> str | None:
        """Return why a call of `name` is not taken, in words for the cell; None if it is, which counts it."""

    async def call(self, name: str, arguments: str) -> str:
        """Return the result of a call as JSON text. Raise `ToolCallFailed`; a cancel lets go of the tool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolLimits:
    """`timeout` is in seconds, for each call and its wait for a place; `calls` are those of a whole run."""

    timeout: float = 60.0
    calls: int = 1_000
    parallel: int = 8


class Toolbox:
    """Runs tools on the host: async ones in the event loop, others each in a thread.

    A thread can't be ended: one that is over its time, or whose cell has ended, goes on by itself. It keeps its place
    among those in parallel until it ends, and holds neither the session nor the program. So does an async one, but for
    the program, that has not ended `CANCEL_SECONDS` after it was cancelled.
    """

    def __init__(self, tools: Iterable[HostTool] = (), limits: ToolLimits | None = None) -> None:
        """Raise `ConfigError` for two tools of one name, too many, or too much to tell of them."""
        given = list(tools)
        self._tools: Mapping[str, HostTool] = {tool.name: tool for tool in given}
        self._limits = limits or ToolLimits()
        self._left = self._limits.calls
        self._room = asyncio.Semaphore(self._limits.parallel)
        self._going: set[asyncio.Task[tuple[str, Exception | None]]] = set()
        if len(self._tools) < len(given) or len(given) > MAX_TOOLS:
            raise ConfigError(f"tools need a name each, and there can be {MAX_TOOLS}; these are {len(given)}")
        if len(json.dumps(self.announced())) > MAX_ANNOUNCED:
            raise ConfigError("the tools' names, types and docstrings are too long altogether: shorten the docstrings")

    @property
    def names(self) -> Container[str]:
        """What each is called."""
        return self._tools.keys()

    @property
    def variables(self) -> tuple[str, ...]:
        """What the kernel has of each tool: by its name, and to be awaited with an `a` before it."""
        return tuple(name for tool in self._tools for name in (tool, f"a{tool}"))

    def announced(self) -> tuple[dict[str, JSON], ...]:
        """Return what the kernel is told of each tool."""
        return tuple(tool.announced() for tool in self._tools.values())

    def described(self) -> tuple[str, ...]:
        """Return what a model is told of each tool, within a bound."""
        each = min(_TOLD_EACH, _TOLD_ALL // max(1, len(self._tools)))
        told = (tool.described() for tool in self._tools.values())
        return tuple(text if len(text) <= each else f"{text[:each]} […]" for text in told)

    def refusal(self, name: str) -> str | None:
        """Take calls of the tools there are, up to the limit."""
        if name not in self._tools:
            return f"there is no tool {name[:100]!r}"
        if self._left <= 0:
            return f"the {self._limits.calls:,} tool calls of this run are used up"
        self._left -= 1
        return None

    async def call(self, name: str, arguments: str) -> str:
        """Check the arguments, run the tool, check its result."""
        tool = self._tools[name]
        deadline = asyncio.timeout(self._limits.timeout)
        begun = False
        try:
            async with deadline:
                await self._room.acquire()
                begun = True
                return await (self._awaited(tool, arguments) if tool.is_async else self._in_thread(tool, arguments))
        except ToolRefused as error:
            raise ToolCallFailed(str(error), "ToolRefused", str(error)) from None
        except ToolError as error:
            raise ToolCallFailed(str(error)[:_MESSAGE_CHARACTERS], "ToolError", str(error)) from None
        except TimeoutError as error:
            if not deadline.expired():
                raise _failed(error) from None
            why = "the tool took longer than" if begun else "too many tool calls run, and none ended within"
            raise ToolCallFailed(f"{why} {self._limits.timeout:g} s", "TimeoutError", why) from None
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise _failed(error) from None  # the tool's own affair
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a tool raises is that call's failure alone
            raise _failed(error) from None

    async def _awaited(self, tool: HostTool, arguments: str) -> str:
        running = asyncio.ensure_future(_async_outcome(tool, arguments))
        self._going.add(running)

        def end(running: asyncio.Task[tuple[str, Exception | None]]) -> None:
            self._going.discard(running)
            self._room.release()

        running.add_done_callback(end)
        try:
            result, error = await asyncio.shield(running)
        except asyncio.CancelledError:
            running.cancel()
            await asyncio.wait({running}, timeout=CANCEL_SECONDS)
            raise
        if error is not None:
            raise error
        return result

    async def _in_thread(self, tool: HostTool, arguments: str) -> str:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[tuple[str, Exception | None]] = loop.create_future()

        def end(outcome: tuple[str, Exception | None]) -> None:
            self._room.release()
            if not done.done():
                done.set_result(outcome)

        def run() -> None:
            soon(loop, end, _outcome(tool, arguments))

        try:
            _start_thread(run, f"rlm-tool-{tool.name}")
        except RuntimeError:
            self._room.release()
            raise
        result, error = await done
        if error is not None:
            raise error
        return result


async def _async_outcome(tool: HostTool, arguments: str) -> tuple[str, Exception | None]:
    try:
        return tool.write(await tool.function(**tool.read(arguments))), None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it is the call's, and a task's SystemExit would end the loop
        return "", error if isinstance(error, Exception) else _Raised(error)


def _outcome(tool: HostTool, arguments: str) -> tuple[str, Exception | None]:
    try:
        return tool.write(tool.function(**tool.read(arguments))), None
    except Exception as error:  # noqa: BLE001 - a thread's error has nowhere else to go
        return "", error
    except BaseException as error:  # noqa: BLE001 - as above, and it may not end the event loop
        return "", _Raised(error)


class _Raised(Exception):
    """A tool raised what ends programs; `name` is its class."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.name = type(error).__name__


def _start_thread(run: Callable[[], Any], name: str) -> None:
    """Run in a thread that doesn't keep the program from ending, with the caller's context variables."""
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(run,), name=name, daemon=True).start()


def _failed(error: BaseException) -> ToolCallFailed:
    name = error.name if isinstance(error, _Raised) else type(error).__name__
    return ToolCallFailed(f"the tool failed ({name})", name, str(error))
