"""`Hooks`: a program's own functions, called for what happens in its runs."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from rlm_kernel.events import (
    AnswerGiven,
    AnyEvent,
    BudgetWarning,
    CellFinished,
    ContextChunked,
    EventSink,
    KernelReady,
    Notice,
    SubcallFailed,
    SubcallReplied,
    SubcallRequested,
)
from rlm_kernel.models.model import OnText, TextDelta
from rlm_kernel.recording import Following

E_contra = TypeVar("E_contra", contravariant=True)
Hook = Callable[[E_contra], Awaitable[object] | object] | None
"""A function of an event, sync or async."""

END_SECONDS = 10.0
"""How long a run waits at its end for hooks that are behind."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Functions to be called for what happens in a run's own session, each with the event that tells of it.

    They are called one after another, in the order of the events, in a task of the run: a slow one delays the others,
    not the run. One that is not async runs in the run's event loop and holds it up while it works. One that raises is
    told of in the log and, once, in the recording, and ends nothing. A run waits up to `END_SECONDS` at its end for
    those that are behind, and not at all when it is cancelled.

    `text` is no function of an event: it is given the root model's replies as they come, at once, and is to be quick
    and not async.
    """

    variable_loaded: Hook[KernelReady] = None
    chunking_done: Hook[ContextChunked] = None
    invoke_start: Hook[SubcallRequested] = None
    invoke_complete: Hook[SubcallReplied | SubcallFailed] = None
    budget_warning: Hook[BudgetWarning] = None
    cell_done: Hook[CellFinished] = None
    answer: Hook[AnswerGiven] = None
    text: OnText | None = None


_NAMES: dict[type[AnyEvent], str] = {
    KernelReady: "variable_loaded",
    ContextChunked: "chunking_done",
    SubcallRequested: "invoke_start",
    SubcallReplied: "invoke_complete",
    SubcallFailed: "invoke_complete",
    BudgetWarning: "budget_warning",
    CellFinished: "cell_done",
    AnswerGiven: "answer",
}


@asynccontextmanager
async def called(hooks: Hooks | None, following: Following, sink: EventSink) -> AsyncIterator[None]:
    """Call `hooks` for what `following` follows, up to the block's end; tell `sink` of those that raise."""
    if hooks is None:
        yield
        return
    task = asyncio.create_task(_Calls(hooks, sink).follow(following))
    try:
        yield
    except asyncio.CancelledError:
        task.cancel()
        raise
    finally:
        following.end()
        _, late = await asyncio.wait({task}, timeout=END_SECONDS)
        task.cancel()
        await asyncio.wait({task})
        if late:
            sink.emit(Notice(message=f"hooks were still being called {END_SECONDS:g} s after the end, and were left"))
        elif not task.cancelled() and (error := task.exception()) is not None:
            _log.error("hooks are called no more: %s", error)


def heard(hooks: Hooks | None, on_text: OnText | None) -> OnText | None:
    """Return what gives the pieces of a reply to both the hook and `on_text`; None if there is neither."""
    hook = hooks.text if hooks is not None else None
    if hook is None:
        return on_text

    def hear(piece: TextDelta) -> None:
        try:
            hook(piece)
        except Exception:  # noqa: BLE001 - a program's own function must not end a call that is paid for
            _log.exception("the hook text raised")
        if on_text is not None:
            on_text(piece)

    return hear


class _Calls:
    def __init__(self, hooks: Hooks, sink: EventSink) -> None:
        self._hooks = hooks
        self._sink = sink
        self._told: set[str] = set()

    async def follow(self, following: Following) -> None:
        async for record in following.records():
            name = _NAMES.get(type(record.event))
            hook = getattr(self._hooks, name) if name is not None and not record.node else None
            if name is not None and hook is not None:
                await self._call(name, hook, record.event)

    async def _call(self, name: str, hook: Callable[[Any], Any], event: AnyEvent) -> None:
        try:
            result = hook(event)
            if inspect.isawaitable(result):
                await result
        except Exception as error:  # noqa: BLE001 - a program's own function must not end the run
            _log.exception("the hook %s raised", name)
            if name not in self._told:
                self._told.add(name)
                self._sink.emit(Notice(message=f"the hook {name} raised {type(error).__name__}: {error}"))
