"""Runs that are killed at any moment, and resumed each time."""

from __future__ import annotations

import asyncio
import random
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from rlm_kernel.assembly.sweeping import sweep
from rlm_kernel.config import Settings
from rlm_kernel.events import SubcallReplied, SubcallRequested
from rlm_kernel.recording import read_events
from tests.e2e.conftest import engine, image, program
from tests.e2e.test_resume import Killed, fingerprint, killed

__all__ = ["engine", "image", "killed", "program"]

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

KILLS = 30
NOTHING_ASKED = 63


def answered(recordings: Iterable[Path]) -> set[str]:
    """Return the prompts whose answer is recorded."""
    found = set()
    for path in recordings:
        prompts: dict[tuple[str, str], str] = {}
        for record in read_events(path):
            event = record.event
            if isinstance(event, SubcallRequested):
                prompts[record.node, event.call] = event.prompt
            elif isinstance(event, SubcallReplied):
                found.add(prompts[record.node, event.call])
    return found


@pytest.mark.usefixtures("image")
async def test_any_number_of_kills_at_any_moment(killed: Killed) -> None:
    """Whenever a run is killed, the next one goes on from it: no prompt whose answer is recorded is asked again, no
    old recording changes, nothing is left. After one that has its answer, or was asked nothing, a new one begins."""
    seed = random.randrange(2**32)
    moments = random.Random(seed)
    series: set[Path] = set()
    cut = answers = nothing = most = 0
    began = time.monotonic()
    assert await asyncio.to_thread(killed.start().wait) == 0
    whole = time.monotonic() - began  # on this machine, with whatever else it does
    while cut < KILLS:
        known, before, asked = answered(series), fingerprint(killed.state / "runs"), killed.led.asked.copy()
        process = killed.start(anew=not series)
        try:
            status: int | None = await asyncio.to_thread(process.wait, moments.uniform(0.2 * whole, 1.1 * whole))
        except subprocess.TimeoutExpired:
            await killed.cut_off(process)
            status, cut = None, cut + 1
        assert status in (None, 0, NOTHING_ASKED), process.communicate()
        again = known & {key for key in killed.led.asked if killed.led.asked[key] > asked[key]}
        assert not again, (seed, again)
        assert before.items() <= fingerprint(killed.state / "runs").items()
        series.update(killed.since_start)
        most = max(most, len(series))
        if status is not None:
            series.clear()
            answers, nothing = answers + (status == 0), nothing + (status == NOTHING_ASKED)
    swept = sweep(Settings(state_dir=killed.state))
    assert [left for left in swept if left.error] == []
    assert list((killed.state / "sessions").iterdir()) == []
    print(
        f"seed {seed}: {cut} kills, {answers} runs had their answer, {nothing} had been asked nothing, {most} in a row"
    )
    assert most > 2
