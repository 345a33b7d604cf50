"""Signals end a run cleanly: the coroutine is cancelled, its clean-up is waited for."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_kernel.cli.running import Terminated, raise_on_signals, run_cancellable


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Put the signal handlers back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "raised"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated), (signal.SIGHUP, Terminated)],
    ids=["INT", "TERM", "HUP"],
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

    raise_on_signals()
    with pytest.raises(raised):
        run_cancellable(work())
    assert cleaned == [True]


def test_a_signal_that_comes_as_the_wait_begins_is_not_lost() -> None:
    """However close to its begin a run is interrupted, it is cancelled."""
    raise_on_signals()
    rounds = 300

    async def work(delay: float) -> None:
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)).start()
        await asyncio.sleep(60)

    started = time.monotonic()
    for number in range(rounds):
        with pytest.raises(KeyboardInterrupt):
            run_cancellable(work(number % 30 * 1e-5))
    assert time.monotonic() - started < 55


def test_a_result_is_returned_and_the_handlers_are_as_before() -> None:
    """After a run the signals raise again where the main thread is."""

    async def work() -> int:
        return 42

    raise_on_signals()
    assert run_cancellable(work()) == 42
    for number, raised in (
        (signal.SIGINT, KeyboardInterrupt),
        (signal.SIGTERM, Terminated),
        (signal.SIGHUP, Terminated),
    ):
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
    raise_on_signals()
    with pytest.raises(Terminated):
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("inside", [True, False], ids=["in a run", "outside"])
def test_nohup_keeps_its_meaning(inside: bool) -> None:
    """A SIGHUP that was ignored from the start stays ignored."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    raise_on_signals()

    async def work() -> int:
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.05)
        return 42

    if inside:
        assert run_cancellable(work()) == 42
    os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_closed_terminal_is_a_status_of_its_own(tmp_path: Path) -> None:
    """When the terminal goes away while a pipe is waited for, the command ends with 129, unable to say so."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "script.md").write_text("--- turn ---\nFINAL(1)\n")
    terminal, inner = pty.openpty()
    arguments = ["--model", f"scripted:{tmp_path}/script.md", "--context", str(tmp_path / "pipe"), "why?"]
    with subprocess.Popen(
        [sys.executable, "-c", _OWN_TERMINAL, "run", "--state-dir", str(tmp_path / "state"), *arguments],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        start_new_session=True,
    ) as process:
        os.close(inner)
        with (tmp_path / "pipe").open("w"):  # opens when the command reads
            os.close(terminal)
            assert process.wait(20) == 129


_OWN_TERMINAL = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from rlm_kernel.cli import main
main()
"""
