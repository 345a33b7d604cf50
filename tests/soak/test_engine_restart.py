"""A Docker engine that is stopped, killed and started anew below a living session; the engine is one of our own."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import docker
import pytest

from rlm_kernel import RLM
from rlm_kernel.assembly.sweeping import sweep
from rlm_kernel.config import Settings
from rlm_kernel.errors import EngineUnavailable, RlmKernelError, SandboxError
from rlm_kernel.events import AnyEvent, CellOutput, SandboxStarted
from rlm_kernel.sandbox.engine import connect
from rlm_kernel.sandbox.processes import processes_of
from rlm_kernel.sandbox.spec import Carrier
from tests.support.sinks import Events

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(300),
    # The Docker library leaves sockets that could not connect to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

SCRIPT = """--- turn ---
```repl
print('on', flush=True)
import time
for _ in range(50): time.sleep(0.1)
```
--- turn ---
```repl
FINAL('through')
```
"""


REAPER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
os.spawnvp(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
try:
    while True: os.wait()
except ChildProcessError: pass
"""
"""Stands in for an init: takes the orphans of its child (PR_SET_CHILD_SUBREAPER) and waits for them at once."""


class InnerEngine:
    """A Docker engine with a network namespace and folders of its own."""

    def __init__(self, folder: Path) -> None:
        self.address = f"unix://{folder}/engine"
        self._folder = folder
        self._reapers: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start it and wait until it answers."""
        folder = self._folder
        options = {"host": self.address, "data-root": folder / "data", "exec-root": folder / "exec"}
        options |= {"pidfile": folder / "pid", "bridge": "none", "iptables": "false", "ip6tables": "false"}
        command = [
            sys.executable,
            "-c",
            REAPER,
            "unshare",
            "--net",
            "dockerd",
            *(f"--{name}={value}" for name, value in options.items()),
        ]
        with (folder / "log").open("ab") as log:
            self._reapers.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
        deadline = time.monotonic() + 60
        while True:
            try:
                connect(self.address, deadline=5).close()
            except EngineUnavailable:
                assert time.monotonic() < deadline, (folder / "log").read_text()[-2000:]
                time.sleep(0.1)
            else:
                return

    def end(self, number: signal.Signals) -> None:
        """Send the engine a signal, and wait until it is gone."""
        pidfd = os.pidfd_open(int((self._folder / "pid").read_text()))
        try:
            signal.pidfd_send_signal(pidfd, number)
            assert select.select([pidfd], [], [], 60)[0], "the engine does not end"
        finally:
            os.close(pidfd)

    def close(self) -> None:
        """End it and everything it has started."""
        self.end(signal.SIGTERM)
        for reaper in self._reapers:
            reaper.wait(30)
        mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for place in reversed([place for place in mounted if Path(place).is_relative_to(self._folder)]):
            subprocess.run(["umount", "--lazy", place], check=True)  # an engine that was killed leaves them

    def load(self, image: str) -> None:
        """Give it an image of the engine that tests use."""
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saving:
            subprocess.run(["docker", "-H", self.address, "load"], stdin=saving.stdout, check=True)


@pytest.fixture(scope="module")
def inner(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InnerEngine]:
    """The engine, with the sandbox image."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "dockerd", "docker"))):
        pytest.skip("an engine of our own needs root and dockerd")
    engine = InnerEngine(tmp_path_factory.mktemp("engine"))
    engine.start()
    try:
        engine.load(image)
        yield engine
    finally:
        engine.close()


@pytest.fixture(autouse=True)
def collected(nothing_left: None, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Collect such sockets before the next test."""
    yield
    caplog.get_records("call").clear()  # errors in it hold such sockets
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


class Waiting(Events):
    """Tells when a cell runs."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = asyncio.Event()

    def emit(self, event: AnyEvent, node: str = "") -> None:
        """Keep `event`."""
        super().emit(event, node)
        if isinstance(event, CellOutput):
            self.runs.set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_restart_leaves_nothing(
    inner: InnerEngine, carrier: Carrier, number: signal.Signals, tmp_path: Path
) -> None:
    """The run ends in order, or goes on where its stream needs no engine; once the engine is back nothing is left."""
    (tmp_path / "script.md").write_text(SCRIPT)
    settings = Settings(
        model=f"scripted:{tmp_path}/script.md", state_dir=tmp_path, docker_host=inner.address, carrier=carrier
    )
    events = Waiting()
    async with RLM(settings=settings, on_event=events) as rlm:
        run = asyncio.ensure_future(rlm.acompletion("why?", "text"))
        await asyncio.wait_for(events.runs.wait(), 60)
        started = time.monotonic()
        await asyncio.to_thread(inner.end, number)
        assert time.monotonic() - started < 8, "sessions hold up the engine's end"
        if carrier == "socket" and number is signal.SIGKILL:
            await asyncio.to_thread(inner.start)
            with suppress(SandboxError):  # it may end before the engine is back and ends what ran without it
                assert (await asyncio.wait_for(run, 60)).answer == "through"
        else:
            with pytest.raises(RlmKernelError):
                await asyncio.wait_for(run, 60)
            await asyncio.to_thread(inner.start)
        assert (await rlm.acompletion("why?", "text")).answer == "through"
    await asyncio.to_thread(assert_nothing_left, settings, events)


def assert_nothing_left(settings: Settings, events: Events) -> None:
    """After a sweep there is no container, no process of one, and no session folder."""
    assert [left for left in sweep(settings) if left.error] == []
    client: docker.APIClient = connect(settings.docker_host)
    try:
        assert client.containers(all=True) == []
    finally:
        client.close()
    for event in events.of(SandboxStarted):
        assert processes_of(event.container) == []
    assert list(settings.sessions_dir.iterdir()) == []
