"""Starts and kills the program `tests.support.crash`."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_kernel.sandbox.spec import Carrier
from tests.support.crash import STOPPED

REPOSITORY = Path(__file__).parents[2]
DEADLINE = 10.0


class Run:
    """A run in a process of its own, up to a step; `told` are the events it told of."""

    def __init__(self, step: str, carrier: Carrier, state: Path, wrapper: tuple[str, ...] = ()) -> None:
        """Start it; `wrapper` is a command to start it with."""
        self.state = state
        self.told: list[str] = []
        self.process = subprocess.Popen(
            [*wrapper, sys.executable, "-m", "tests.support.crash", step, carrier, str(state)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            start_new_session=True,
        )

    def lines(self) -> Iterator[str]:
        """Yield what the process says."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield line.strip()

    def until_stopped(self) -> None:
        """Wait until the step is reached."""
        for line in self.lines():
            if line == STOPPED:
                return
            self.told.append(line)
        pytest.fail(f"the run ended before its step, after {self.told}")

    def kill(self) -> None:
        """Send SIGKILL, and read what was said until then."""
        self.process.kill()
        assert self.process.wait(DEADLINE) == -signal.SIGKILL
        self.told += self.lines()

    def close(self) -> None:
        """See to it that the process is gone."""
        self.process.kill()
        self.process.communicate()
