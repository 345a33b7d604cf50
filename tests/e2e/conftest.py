"""The command line in a process of its own, against the real engine; no test may leave a container or process."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from rlm_kernel.sandbox.container import LABEL
from rlm_kernel.sandbox.engine import connect
from rlm_kernel.sandbox.image import ensure_image
from tests.support.ended import Ended

REPOSITORY = Path(__file__).parents[2]


class Program:
    """A Python program with a state folder of its own; `start` and `run` begin it, `end` waits for it."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.started: list[subprocess.Popen[str]] = []

    def start(
        self, *arguments: str, stdin: int | None = subprocess.DEVNULL, file_size: int = resource.RLIM_INFINITY
    ) -> subprocess.Popen[str]:
        """Start Python with `arguments`, in a process group of its own; it can write files of `file_size` bytes."""
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"XDG_STATE_HOME": str(self.state), "PYTHONUNBUFFERED": "1"},
            cwd=REPOSITORY,
            start_new_session=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size)),  # noqa: PLW1509
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str, given: str | None = None) -> Ended:
        """Run Python with `arguments` to its end, `given` on its standard input."""
        process = self.start(*arguments, stdin=subprocess.DEVNULL if given is None else subprocess.PIPE)
        out, err = process.communicate(given, timeout=120)
        return Ended(process.returncode, out, err)


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.APIClient]:
    """A client of the engine that tests use."""
    client = connect()
    yield client
    client.close()


@pytest.fixture(scope="session", autouse=True)
def image(engine: docker.APIClient) -> str:
    """The sandbox image, built if it is missing."""
    return ensure_image(engine, progress=lambda line: None)


def containers_of(engine: docker.APIClient, pid: int) -> list[Any]:
    """Return the containers that the process `pid` started."""
    ours = engine.containers(all=True, filters={"label": [LABEL]})
    return [container for container in ours if container["Labels"][f"{LABEL}.owner"].split(":")[1] == str(pid)]


def group_is_gone(group: int) -> bool:
    """Tell whether no process of a group is alive."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture
def program(tmp_path: Path, engine: docker.APIClient) -> Iterator[Program]:
    """A program to run; afterwards no container of it exists and no process of its group lives."""
    program = Program(tmp_path / "state")
    yield program
    for process in program.started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert group_is_gone(process.pid)
        assert containers_of(engine, process.pid) == []


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., str]:
    """A function that writes a scripted model's turns, each a cell's code, and returns the model's name."""

    def write(*cells: str) -> str:
        path = tmp_path / "script.md"
        path.write_text("".join(f"--- turn ---\n```repl\n{cell}\n```\n" for cell in cells))
        return f"scripted:{path}"

    return write
