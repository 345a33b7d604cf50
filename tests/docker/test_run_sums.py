"""What `runs show` counts is what the run itself counted, with a real server that fails at times."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from rlm_kernel import RLM, Settings
from rlm_kernel.recording import EVENTS_FILE, Recording
from rlm_kernel.recording.tree import call_tree
from tests.docker.test_rlm import cell, script
from tests.support.provider_server import ProviderServer, Reply


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
    assert sums.by_model == result.usage
    assert sums.subcalls == 8
    assert sums.failed
    assert sums.cached
