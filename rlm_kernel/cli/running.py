"""Run a coroutine to its end from the command line, with Ctrl-C, SIGTERM and SIGHUP cancelling it cleanly."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")


class Terminated(BaseException):
    """The process was sent SIGTERM or SIGHUP: `number`."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number)
        self.number = number


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated(signal.Signals(number))


def raise_on_signals() -> None:
    """Let SIGTERM and SIGHUP raise `Terminated` where the main thread is, as Ctrl-C raises `KeyboardInterrupt`."""
    for number in _ending():
        signal.signal(number, _terminate)


def _ending() -> list[signal.Signals]:
    """Return the signals that mean the end; `nohup` has SIGHUP ignored, which is left so."""
    hung_up = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGTERM, *hung_up]


def run_cancellable(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what `coroutine` gives. The first signal to end cancels it, and its clean-up is then waited for.

    Raise `KeyboardInterrupt` or `Terminated` once it is cancelled.
    """
    received: list[signal.Signals] = []
    try:
        return asyncio.run(_cancelled_by_signals(coroutine, received))
    except asyncio.CancelledError:
        if not received:
            raise
        raise (KeyboardInterrupt() if received[0] is signal.SIGINT else Terminated(received[0])) from None
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise_on_signals()


async def _cancelled_by_signals(coroutine: Coroutine[Any, Any, T], received: list[signal.Signals]) -> T:
    task = asyncio.current_task()
    assert task is not None

    def receive(number: signal.Signals) -> None:
        received.append(number)
        if len(received) == 1:
            task.cancel()
            return
        with suppress(OSError):  # the terminal may be gone
            sys.stderr.write("\nstill removing the container; this can take up to a minute if the engine hangs\n")

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, *_ending()):
        loop.add_signal_handler(number, receive, number)
    return await coroutine
