"""Ten thousand sub-calls to a provider that fails at first."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from rlm_kernel import Settings
from tests.docker.conftest import MIB
from tests.support.provider_server import provider_process
from tests.support.storm import storm

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

CALLS = 10_000


async def test_ten_thousand_calls(image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are answered, each once and in its place, though a fifth fails at first; memory stays flat."""
    assert image
    settings = Settings(
        state_dir=tmp_path / "state",
        sub_model="vllm:m",
        cell_timeout=800,
        request_timeout=3.0,
        max_parallel_subcalls=100,
    )
    started = time.monotonic()
    with provider_process("--faults") as url:
        monkeypatch.setenv("VLLM_BASE_URL", f"{url}/v1")
        seen = await storm(CALLS, settings, tmp_path)
    print(f"{CALLS:,} in {time.monotonic() - started:.0f} s; memory, MiB: {[used // MIB for used in seen.memory]}")
    print(f"repeated: {seen.retried.total():,}: {seen.retried.most_common()}")
    seen.assert_complete(CALLS)
    assert seen.retried.total() >= CALLS // 5
    assert max(seen.memory[4:]) - seen.memory[3] < 24 * MIB
