"""Run a coroutine to its end from the command line, with Ctrl-C and SIGTERM cancelling it cleanly."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine
from types import FrameType
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")


class Terminated(BaseException):
    """The process was sent SIGTERM."""


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def raise_on_sigterm() -> None:
    """Let SIGTERM raise `Terminated` where the main thread is, as Ctrl-C raises `KeyboardInterrupt`."""
    signal.signal(signal.SIGTERM, _terminate)


def run_cancellable(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what `coroutine` gives. The first Ctrl-C or SIGTERM cancels it, and its clean-up is then waited for.

    Raise `KeyboardInterrupt` or `Terminated` once it is cancelled.
    """
    received: list[signal.Signals] = []
    try:
        return asyncio.run(_cancelled_by_signals(coroutine, received))
    except asyncio.CancelledError:
        if not received:
            raise
        raise (KeyboardInterrupt if received[0] is signal.SIGINT else Terminated) from None
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise_on_sigterm()


async def _cancelled_by_signals(coroutine: Coroutine[Any, Any, T], received: list[signal.Signals]) -> T:
    task = asyncio.current_task()
    assert task is not None

    def receive(number: signal.Signals) -> None:
        if received:
            sys.stderr.write("\nstill removing the container; this takes a few seconds at most\n")
        else:
            task.cancel()
        received.append(number)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, receive, number)
    return await coroutine
