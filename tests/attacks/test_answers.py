"""Stored answers: what cells can do to those of later runs."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rlm_kernel import RLM, Settings
from rlm_kernel.events import Notice, SubcallReplied
from tests.support.provider_server import ProviderServer, Reply
from tests.support.sinks import Events

ATTACK = r"""
prompts = ["../../../../etc/passwd", "/etc/passwd", "a\x00b", "\u202e" * 50, "x" * 300, "{}", "." * 5000]
prompts += [f"many {n}" for n in range(100)]
answers = llm_query_batched(prompts)
try: llm_query("hi", model="../other")
except LLMQueryError: pass
FINAL(sorted(set(answers)))
"""


@pytest.fixture
async def vllm(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ProviderServer]:
    """A provider whose answers are long and end with the prompt's length."""

    def answer(body: dict[str, list[dict[str, str]]]) -> Reply:
        return Reply(text="y" * 20_000 + str(len(body["messages"][0]["content"])))

    async with ProviderServer(answer).run() as server:
        monkeypatch.setenv("VLLM_BASE_URL", f"{server.url}/v1")
        yield server


async def test_cells_store_only_what_the_model_said(image: str, vllm: ProviderServer, tmp_path: Path) -> None:
    """Whatever is asked: files are named by digests below one folder, whose size is bounded, and answers stay right."""
    assert image
    script = tmp_path / "script.md"
    script.write_text(f"--- turn ---\n```repl\n{ATTACK}\n```\n")
    settings = Settings(
        state_dir=tmp_path / "state", memory=512 * 2**20, cache="write", cache_size=2**20, max_parallel_subcalls=5
    )
    outside = {path for path in tmp_path.rglob("*") if path.is_file()}
    for _ in range(2):
        events = Events()
        async with RLM(f"scripted:{script}", "vllm:m", settings=settings, on_event=events) as rlm:
            await rlm.acompletion("What?", "x")
        for reply in events.of(SubcallReplied):
            assert re.fullmatch(r"y{20000}\d+", reply.text)
        assert not events.of(Notice)
    folder = settings.answers_dir
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    assert all(re.fullmatch(r"[0-9a-f]{2}/[0-9a-f]{64}", str(path.relative_to(folder))) for path in files)
    assert sum(path.stat().st_size for path in files) <= settings.cache_size * 1.1
    known = {folder, settings.runs_dir, settings.contexts_dir, settings.sessions_dir}
    new = {path for path in tmp_path.rglob("*") if path.is_file()} - outside
    assert all(any(place in path.parents for place in known) or path.parent == settings.state_dir for path in new)
