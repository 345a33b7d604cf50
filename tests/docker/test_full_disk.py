"""A disk that is full, for real: each thing that is written ends with `StorageFull`, and nothing is left."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import docker
import pytest

from rlm_kernel import RLM
from rlm_kernel.config import Settings
from rlm_kernel.errors import StorageFull
from rlm_kernel.events import SandboxStarted
from rlm_kernel.recording.reader import read_events
from rlm_kernel.sandbox.contexts import ContextStore
from rlm_kernel.sandbox.spec import Carrier
from rlm_kernel.types import JSON
from tests.docker.conftest import OpenSession
from tests.support.sinks import Events

SIZE = 256 * 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with little room."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},nr_inodes=40,mode=0700", "rlm-kernel-test", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("only root can mount a small file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path, *, leave: int = 0) -> None:
    """Use up all bytes but `leave`."""
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    os.truncate(disk / "filler", (disk / "filler").stat().st_size - leave)


def use_names(disk: Path) -> None:
    """Use up every inode."""
    with suppress(OSError):
        for number in range(1000):
            (disk / f"name-{number}").touch()


@pytest.mark.parametrize("full", [fill, use_names], ids=["bytes", "names"])
async def test_a_session_needs_room(
    open_test_session: OpenSession, disk: Path, carrier: Carrier, full: Callable[[Path], None], engine: docker.APIClient
) -> None:
    """A session whose folder, note or context has no room ends at once, and its container with it."""
    (disk / "sessions").mkdir()
    full(disk)
    with pytest.raises(StorageFull, match="--state-dir"):
        async with open_test_session(folder=disk / "sessions", carrier=carrier):
            pass
    assert list((disk / "sessions").iterdir()) == []


@pytest.mark.parametrize("full", [fill, use_names], ids=["bytes", "names"])
async def test_a_context_needs_room(disk: Path, full: Callable[[Path], None], tmp_path: Path) -> None:
    """A context that can't be stored leaves nothing of it in the store."""
    store = ContextStore(disk / "contexts")
    (tmp_path / "text.txt").write_text("a line\n" * 2 * SIZE)
    full(disk)
    contexts: list[Path | JSON] = [tmp_path / "text.txt", ["a value" * SIZE]]
    for context in contexts:
        with pytest.raises(StorageFull, match="--state-dir"):
            await store.put(context)
    assert [path.name for path in (disk / "contexts").rglob("*")] == ["known"]


async def test_a_recording_needs_room(disk: Path, carrier: Carrier, tmp_path: Path, engine: docker.APIClient) -> None:
    """A run that can't be recorded any further ends, its container too; what was recorded can be read."""
    (tmp_path / "script.md").write_text("--- turn ---\n```repl\nfor _ in range(100): print('x' * 10_000)\n```\n")
    settings = Settings(model=f"scripted:{tmp_path}/script.md", carrier=carrier, state_dir=disk)
    events = Events()
    async with RLM(settings=settings, on_event=events) as rlm:
        fill(disk, leave=64 * 1024)
        with pytest.raises(StorageFull, match="--state-dir"):
            await rlm.acompletion("why?", "text")
    assert list(disk.glob("sessions/*")) == []
    (recording,) = disk.glob("runs/*/events.jsonl")
    recorded = [record.event for record in read_events(recording)]
    assert [type(event) for event in recorded] == [type(event) for event in events.all]
    assert events.of(SandboxStarted)


async def test_a_run_begins_only_where_it_can_be_recorded(disk: Path, tmp_path: Path, image: str) -> None:
    """Without room for the recording nothing starts."""
    (tmp_path / "script.md").write_text("--- turn ---\n```repl\nFINAL(1)\n```\n")
    events = Events()
    settings = Settings(model=f"scripted:{tmp_path}/script.md", state_dir=disk)
    async with RLM(settings=settings, on_event=events) as rlm:
        stored = await ContextStore(disk / "contexts").put("text")
        fill(disk)
        with pytest.raises(StorageFull):
            await rlm.acompletion("why?", stored)
    assert events.all == []
