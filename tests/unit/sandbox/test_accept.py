"""The guest's connection, and cancels that come as it is made."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel.sandbox.container import Container
from rlm_kernel.sandbox.docker import DockerRuntime
from rlm_kernel.sandbox.spec import SandboxSpec


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket that guests can connect to."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(1)
        listener.setblocking(False)
        yield listener


@pytest.mark.parametrize("cancel_first", [True, False])
async def test_a_connection_that_comes_with_a_cancel_is_not_left_open(
    listener: socket.socket, tmp_path: Path, cancel_first: bool
) -> None:
    """Both come in one turn of the event loop, in either order."""
    loop = asyncio.get_running_loop()
    limits: dict[str, Any] = {
        "memory": 1,
        "pids": 1,
        "nofile": 1,
        "tmp_size": 1,
        "first_uid": 40_000,
        "last_uid": 40_001,
    }
    container = Container(SandboxSpec(image="i", folder=tmp_path, cpus=1.0, **limits), "socket")
    accepting = asyncio.ensure_future(DockerRuntime()._accept(listener, container))
    for _ in range(3):  # until it waits
        await asyncio.sleep(0)
    one, other = socket.socketpair()
    with one, other, socket.socket(socket.AF_UNIX) as guest:
        loop.add_reader(one, accepting.cancel)
        if cancel_first:
            other.send(b"x")
        guest.connect(listener.getsockname())
        if not cancel_first:
            other.send(b"x")
        with pytest.raises(asyncio.CancelledError):
            await accepting
        loop.remove_reader(one)
        gc.collect()  # warns of what nobody has closed
