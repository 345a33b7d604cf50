"""The signals that end a command, as exceptions."""

from __future__ import annotations

import signal
from types import FrameType
from typing import NoReturn


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
