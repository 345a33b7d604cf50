"""The signals that end a command, as exceptions."""

from __future__ import annotations

import signal
from collections.abc import Coroutine
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
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # `nohup` keeps its meaning
        signal.signal(signal.SIGHUP, _terminate)


def run_cancellable(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what `coroutine` gives. A signal cancels it and is raised when its clean-up is done."""
    from rlm_kernel.assembly.thread import run_in_thread  # noqa: PLC0415 - its imports take too long for `--help`

    return run_in_thread(coroutine)
