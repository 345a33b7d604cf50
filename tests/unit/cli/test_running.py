"""Signals end a run cleanly: the coroutine is cancelled, its clean-up is waited for."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from rlm_kernel.cli.running import Terminated, raise_on_sigterm, run_cancellable


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Put the signal handlers back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)], ids=["INT", "TERM"]
)
def test_a_signal_cancels_and_clean_up_goes_on(number: signal.Signals, raised: type[BaseException]) -> None:
    """The clean-up runs to its end although the same signal comes again during it."""
    cleaned = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.05)
            cleaned.append(True)

    with pytest.raises(raised):
        run_cancellable(work())
    assert cleaned == [True]


def test_a_result_is_returned_and_the_handlers_are_as_before() -> None:
    """After a run Ctrl-C and SIGTERM raise again where the main thread is."""

    async def work() -> int:
        return 42

    assert run_cancellable(work()) == 42
    for number, raised in ((signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)):
        with pytest.raises(raised):
            os.kill(os.getpid(), number)


def test_a_cancel_from_within_is_no_interrupt() -> None:
    """Only a signal counts as one."""

    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run_cancellable(work())


def test_sigterm_raises_outside_of_a_loop_too() -> None:
    """While a context is read there is no loop, and SIGTERM still unwinds."""
    raise_on_sigterm()
    with pytest.raises(Terminated):
        os.kill(os.getpid(), signal.SIGTERM)
