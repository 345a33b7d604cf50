"""The sandbox runtime `docker`: one locked-down, disposable container per session."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from rlm_kernel.errors import EngineTimeout, SandboxLost, SandboxRefused
from rlm_kernel.guest.wire import Channel
from rlm_kernel.sandbox.attach import Demultiplexer, attach
from rlm_kernel.sandbox.container import Container
from rlm_kernel.sandbox.engine import Engine
from rlm_kernel.sandbox.heartbeat import heartbeat
from rlm_kernel.sandbox.oci import OciRuntime, find_runtime, remedy
from rlm_kernel.sandbox.packages import labelled_packages
from rlm_kernel.sandbox.spec import SOCKET_NAME, Carrier, Sandbox, SandboxSpec
from rlm_kernel.sandbox.verify import read_hello
from rlm_kernel.stream import Endpoint
from rlm_kernel.types import JSON

SLOW_START = 3.0
"""Seconds after which a container that has not called back is watched for its end."""


class DockerRuntime:
    """Starts sandboxes on the engine that `docker_host`, DOCKER_HOST or the current Docker context names."""

    name = "docker"

    def __init__(self, docker_host: str | None = None, *, oci_runtime: str | None = None) -> None:
        """`oci_runtime` is the engine's name of another OCI runtime than its default one."""
        self._engine = Engine(docker_host)
        self._oci_runtime = oci_runtime

    async def carrier(self, wanted: Carrier | Literal["auto"]) -> Carrier:
        """Return "socket" where the engine shares this host's kernel and files, else "attach".

        Raise `EngineUnavailable`, or `SandboxRefused` where the engine has no such OCI runtime.
        """
        client = await self._engine.client()
        version = self._engine.version
        same_kernel = version.get("Os") == "linux" and version.get("KernelVersion") == os.uname().release
        shares = client.is_near and same_kernel and (await self._oci()).host_sockets
        return wanted if wanted != "auto" else "socket" if shares else "attach"

    @asynccontextmanager
    async def open(self, spec: SandboxSpec) -> AsyncIterator[Sandbox]:
        """Start a container as `SandboxRuntime.open` promises."""
        carrier, spec = await self.carrier(spec.carrier), spec.seeded()
        async with AsyncExitStack() as stack:
            container = Container(spec, carrier, await self._oci())
            stack.push_async_callback(self._remove, container)
            try:
                async with asyncio.timeout(spec.start_timeout):
                    endpoint = await self._start(container, stack)
                    hello = await endpoint.receive(Channel.CONTROL)
            except TimeoutError:
                raise EngineTimeout(
                    f"the container did not call back within {spec.start_timeout:.0f} s; is the image whole? "
                    "`rlm-kernel image build --rebuild` makes it anew"
                ) from None
            endpoint.release(hello)
            stack.enter_context(heartbeat(endpoint, spec.lease))
            seen = self._read(hello.payload, container)
            version = self._engine.version
            platform = version.get("Platform", {}).get("Name") or self.name
            yield Sandbox(
                runtime=self.name,
                oci_runtime=container.oci.name or container.inspected["HostConfig"]["Runtime"],
                engine=f"{platform} {version.get('Version', '')}".strip(),
                container=container.id,
                image=spec.image,
                image_id=container.inspected["Image"],
                carrier=carrier,
                uid=container.uid,
                seen=seen,
                endpoint=endpoint,
                seed=spec.seed,
                packages=labelled_packages(container.inspected["Config"]["Labels"]),
            )

    async def aclose(self) -> None:
        """Close the connection to the engine."""
        await self._engine.aclose()

    def _read(self, hello: bytes, container: Container) -> dict[str, JSON]:
        shared, hidden = container.carrier == "socket", container.oci.hides
        try:
            return read_hello(hello, container.spec, container.uid, shared=shared, hidden=hidden)
        except SandboxRefused as error:
            raise SandboxRefused(f"{error}{remedy(self._engine.info)}") from None

    async def _oci(self) -> OciRuntime:
        await self._engine.client()
        return find_runtime(self._engine.info, self._oci_runtime)

    async def _start(self, container: Container, stack: AsyncExitStack) -> Endpoint:
        loop = asyncio.get_running_loop()
        if container.carrier == "socket":
            listener = stack.enter_context(_listen(container.spec.folder))
            await self._engine.call("create the container", container.create)
            await self._engine.call("start the container", container.start)
            connection = await self._accept(listener, container)
            # One guest, one connection: whoever comes later finds nothing to connect to.
            listener.close()
            (container.spec.folder / SOCKET_NAME).unlink()
            _, endpoint = await loop.connect_accepted_socket(Endpoint, connection)
        else:
            await self._engine.call("create the container", container.create)
            endpoint = Endpoint(Demultiplexer().feed)
            stack.callback(endpoint.close)
            await attach(await self._engine.client(), container.id, endpoint)
            await self._engine.call("start the container", container.start)
        stack.callback(endpoint.close)
        return endpoint

    async def _accept(self, listener: socket.socket, container: Container) -> socket.socket:
        """Return the guest's connection, or raise `SandboxLost` if the container ends before it makes one."""
        loop = asyncio.get_running_loop()
        called: asyncio.Future[None] = loop.create_future()
        loop.add_reader(listener, _happened, called)
        try:
            await asyncio.wait({called}, timeout=SLOW_START)
            if not called.done():
                # The call ends with the container, which does not outlive this session: nothing needs to wait for it.
                ended = self._engine.begin(container.wait)
                waits: set[asyncio.Future[Any]] = {called, ended}
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            loop.remove_reader(listener)
        if not called.done():
            raise SandboxLost(
                "the container ended before it called back: its memory or open-file limit may be too small for it"
            )
        connection, _ = listener.accept()  # not `sock_accept`, which loses a connection that a cancel comes after
        connection.setblocking(False)
        return connection

    async def _remove(self, container: Container) -> None:
        """Remove what `container` made. A call that was begun is seen to its end, so a cancel can't lose it."""
        if container.begun:
            await self._engine.call("remove the container", container.remove)


def _happened(event: asyncio.Future[None]) -> None:
    if not event.done():
        event.set_result(None)


def _listen(folder: Path) -> socket.socket:
    """Listen in `folder`; the name goes over a descriptor, as a socket's path may have 107 bytes only."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    descriptor = os.open(folder, os.O_DIRECTORY)
    try:
        listener.bind(f"/proc/self/fd/{descriptor}/{SOCKET_NAME}")
        (folder / SOCKET_NAME).chmod(0o666)
        listener.listen(1)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    finally:
        os.close(descriptor)
    return listener
