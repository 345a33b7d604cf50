"""Sweeps on the real engine: what is left over goes, what lives stays, whoever else sweeps or starts at that time."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker
import pytest

from rlm_kernel.assembly.sweeping import sweep
from rlm_kernel.config import Settings
from rlm_kernel.sandbox import processes
from rlm_kernel.sandbox import sweep as sweep_module
from rlm_kernel.sandbox.container import LABEL
from rlm_kernel.sandbox.folders import session_folder
from rlm_kernel.sandbox.owner import owner
from rlm_kernel.sandbox.sweep import Leftover, Sweeper
from tests.docker.conftest import OpenSession
from tests.support.crashing import Run

MakeContainer = Callable[[str], str]


def dead_owner() -> str:
    """Return the label of a process of this namespace that is no more."""
    boot, _, _, namespace = owner().split(":")
    with subprocess.Popen(["true"]) as process:
        pass
    return f"{boot}:{process.pid}:1:{namespace}"


@pytest.fixture
def make(engine: docker.APIClient, image: str) -> Iterator[MakeContainer]:
    """A function that makes a container, never started, with the given owner."""
    made: list[str] = []

    def create(label: str) -> str:
        labels = {LABEL: "session", f"{LABEL}.owner": label}
        container: dict[str, Any] = engine.create_container(image, labels=labels)
        made.append(container["Id"])
        return str(container["Id"])

    yield create
    for container in made:
        with suppress(docker.errors.NotFound):
            engine.remove_container(container, force=True)


def exists(engine: docker.APIClient, container: str) -> bool:
    """Tell whether the engine knows a container."""
    return bool(engine.containers(all=True, filters={"id": container}))


def names(leftovers: list[Leftover]) -> list[str]:
    """Return what they are called."""
    return [leftover.name for leftover in leftovers]


def test_a_container_of_a_dead_process_goes(engine: docker.APIClient, make: MakeContainer, tmp_path: Path) -> None:
    """A dry run names it and leaves it, a sweep removes it, the next one finds it no more."""
    container, settings = make(dead_owner()), Settings(state_dir=tmp_path)
    assert container in names(sweep(settings, dry_run=True))
    assert exists(engine, container)
    assert container in names(sweep(settings))
    assert not exists(engine, container)
    assert container not in names(sweep(settings))


@pytest.mark.parametrize("part", ["boot", "namespace"])
def test_a_container_whose_owner_cannot_be_seen_waits(
    engine: docker.APIClient, make: MakeContainer, tmp_path: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another boot or PID namespace, it stays until it has been left unstarted for long."""
    boot, pid, start, namespace = dead_owner().split(":")
    container = make(f"other:{pid}:{start}:{namespace}" if part == "boot" else f"{boot}:{pid}:{start}:1")
    settings = Settings(state_dir=tmp_path)
    assert container not in names(sweep(settings))
    monkeypatch.setattr(sweep_module, "NEVER_STARTED", -60.0)  # the engine's clock may be behind by a second
    assert container in names(sweep(settings, dry_run=True))


async def test_own_living_sessions_stay(open_test_session: OpenSession, tmp_path: Path) -> None:
    """A sweep beside a living session of the same process finds nothing of it."""
    async with open_test_session() as session:
        (folder,) = (tmp_path / "sessions").iterdir()
        assert str(folder) not in names(await asyncio.to_thread(sweep, Settings(state_dir=tmp_path)))
        assert folder.is_dir()
        assert (await session.run_cell("print(context)", turn=1)).status == "ok"


@pytest.mark.parametrize("step", ["after it was created", "when the kernel is ready", "before the folder is removed"])
@pytest.mark.parametrize("wrapper", [(), ("unshare", "--pid", "--fork", "--kill-child")], ids=["", "namespace"])
def test_living_sessions_of_others_stay(
    engine: docker.APIClient, image: str, tmp_path: Path, step: str, wrapper: tuple[str, ...]
) -> None:
    """Another process keeps its container and folder, in another PID namespace too; once killed it keeps neither."""
    run = Run(step, "socket", tmp_path / "state", wrapper)
    try:
        run.until_stopped()
        settings = Settings(state_dir=run.state)
        (folder,) = (run.state / "sessions").iterdir()
        assert str(folder) not in names(sweep(settings))
        assert folder.is_dir()
        note = folder / "container"
        container = note.read_text() if note.exists() else None
        assert container is None or exists(engine, container) == (step != "before the folder is removed")
        run.kill()
        sweep(settings)
        assert not folder.exists()
        assert container is None or not exists(engine, container)
    finally:
        run.close()
        for left in engine.containers(all=True, filters={"label": [LABEL]}):  # one that a sweep can't judge yet
            if any(Path(mount["Source"]).is_relative_to(run.state) for mount in left["Mounts"]):
                engine.remove_container(left["Id"], force=True)


def test_a_paused_container_goes(engine: docker.APIClient, image: str, tmp_path: Path) -> None:
    """A container that was frozen, and so can't end with its stream, goes with the sweep."""
    run = Run("while a cell spins", "socket", tmp_path / "state")
    try:
        run.until_stopped()
        (folder,) = (run.state / "sessions").iterdir()
        container = (folder / "container").read_text()
        engine.pause(container)
        run.kill()
        assert {container, str(folder)} <= set(names(sweep(Settings(state_dir=run.state))))
        assert not exists(engine, container)
        assert processes.processes_of(container) == []
    finally:
        run.close()


def test_runtime_processes_that_stay_are_killed(
    engine: docker.APIClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shim of a noted container that the engine does not know is killed; others that name it are left alone."""
    monkeypatch.setattr(processes, "ENDS_WITHIN", 0.5)
    container = "c0ffee" * 10 + "beef"
    shim = str(tmp_path / "containerd-shim-test")
    shutil.copy("/bin/sh", shim)
    folder = tmp_path / "sessions" / "dead"
    folder.mkdir(parents=True)
    (folder / "container").write_text(container)
    commands = [[shim, "-c", "read x", "-id", container], ["/bin/sh", "-c", "read x", "-id", container]]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE) for command in commands]
    try:
        (found,) = [left for left in sweep(Settings(state_dir=tmp_path)) if left.kind == "process"]
        assert (found.name, found.error) == (f"containerd-shim ({started[0].pid})", None)
        assert started[0].wait(5) == -9
        assert started[1].poll() is None
        assert not folder.exists()
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_a_folder_that_is_no_session_stays(engine: docker.APIClient, tmp_path: Path) -> None:
    """Files and links among the sessions are nobody's session; what a link leads to stays."""
    (tmp_path / "state").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "state" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "state" / "file").touch()
    assert [left for left in Sweeper(engine, tmp_path / "state").sweep() if left.kind == "session folder"] == []
    assert (tmp_path / "elsewhere").is_dir()


async def test_sweepers_race_each_other_and_starts(
    open_test_session: OpenSession, engine: docker.APIClient, make: MakeContainer, tmp_path: Path
) -> None:
    """Three sweepers at once, with leftovers to quarrel over and sessions that start and end: all goes well."""
    settings, stop, swept = Settings(state_dir=tmp_path), threading.Event(), []

    def keep_sweeping() -> None:
        while not stop.is_set():
            swept.extend(sweep(settings))

    def leave() -> list[str]:
        for number in range(10):
            with session_folder(tmp_path / "scratch") as folder:
                shutil.copytree(folder.parent, tmp_path / f"dead-{number}")
            (tmp_path / f"dead-{number}").rename(tmp_path / "sessions" / f"dead-{number}")
        return [make(dead_owner()) for _ in range(5)]

    (tmp_path / "sessions").mkdir(mode=0o700)
    threads = [threading.Thread(target=keep_sweeping) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        containers = await asyncio.to_thread(leave)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(3):
                tasks.create_task(_one_cell(open_test_session))
    finally:
        stop.set()
        for thread in threads:
            await asyncio.to_thread(thread.join)
    swept += sweep(settings)
    assert [left for left in swept if left.error] == []
    assert not any(exists(engine, container) for container in containers)
    assert list((tmp_path / "sessions").iterdir()) == []


async def _one_cell(open_test_session: OpenSession) -> None:
    async with open_test_session() as session:
        assert (await session.run_cell("print(context)", turn=1)).status == "ok"
