"""What `runs show` counts is what the run itself counted, and old runs go as one ends."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from rlm_kernel import RLM, Settings
from rlm_kernel.assembly.sweeping import sweep
from rlm_kernel.recording import EVENTS_FILE, Recording
from rlm_kernel.recording.tree import call_tree
from rlm_kernel.storage import UNFINISHED
from tests.docker.test_rlm import cell, script
from tests.support.provider_server import ProviderServer, Reply
from tests.support.recorded import run_id, started, write_run
from tests.unit.recording.test_removal import DAY, aged


async def test_the_tree_counts_what_the_run_counted(
    image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retries, calls that fail in the end, refused replies that were paid for, and answers from the store."""
    replies = itertools.cycle([Reply(), Reply(status=500), Reply(text=""), Reply(status=400)])
    settings = Settings(state_dir=tmp_path / "state", memory=512 * 2**20, cache="write", retry_attempts=2)
    asking = cell("r = llm_query_batched([f'{n}' for n in range(4)], return_exceptions=True)")
    again = cell("r = llm_query_batched([f'{n}' for n in range(4)], return_exceptions=True)\nFINAL(len(r))")
    async with ProviderServer(lambda body: next(replies)).run() as server:
        monkeypatch.setenv("VLLM_BASE_URL", f"{server.url}/v1")
        async with RLM(script(tmp_path, asking, again), "vllm:m", settings=replace(settings)) as rlm:
            result = await rlm.acompletion("How many?", "text")
    with Recording(result.recording / EVENTS_FILE) as recording:
        sums = call_tree(recording).sums
        finished = recording.finished
    assert sums.by_model == result.usage
    assert finished is not None
    assert sums.subcalls == finished.subcalls == 8
    assert sums.failed
    assert sums.cached


async def test_the_rule_is_applied_as_a_run_ends(image: str, tmp_path: Path) -> None:
    """Old runs go, the one that ends stays; what a crash left of a removal is swept."""
    settings = Settings(state_dir=tmp_path / "state", memory=512 * 2**20, keep_runs_days=1)
    aged(write_run(settings.state_dir, run_id(1), [started(run_id(1))]), 3 * DAY)
    left = settings.runs_dir / f"{UNFINISHED}{run_id(2)}-0"
    left.mkdir()
    async with RLM(script(tmp_path, "FINAL(42)"), settings=settings) as rlm:
        result = await rlm.acompletion("How many?", "text")
    await asyncio.to_thread(sweep, settings)
    assert image
    assert list(settings.runs_dir.iterdir()) == [result.recording]
