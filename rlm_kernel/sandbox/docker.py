"""The sandbox runtime `docker`: one locked-down, disposable container per session."""

from __future__ import annotations

import asyncio
import os
import pwd
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import docker
import docker.errors
from docker.types import LogConfig, Mount, Ulimit

from rlm_kernel.errors import EngineTimeout, SandboxError, SandboxLost, SandboxRefused
from rlm_kernel.guest.wire import Channel
from rlm_kernel.sandbox.attach import Demultiplexer, attached_socket
from rlm_kernel.sandbox.engine import Engine, failed
from rlm_kernel.sandbox.spec import (
    GUEST_PRIVATE,
    GUEST_SHARED,
    GUEST_TMP,
    SOCKET_NAME,
    Carrier,
    Sandbox,
    SandboxSpec,
)
from rlm_kernel.sandbox.verify import read_hello
from rlm_kernel.stream import Endpoint

LABEL = "io.rlm-kernel"
REMOVAL_DEADLINE = 20


class DockerRuntime:
    """Starts sandboxes on the engine that `docker_host`, DOCKER_HOST or the current Docker context names."""

    name = "docker"

    def __init__(self, docker_host: str | None = None, *, oci_runtime: str | None = None) -> None:
        """`oci_runtime` is the engine's name of another OCI runtime than its default one."""
        self._engine = Engine(docker_host)
        self._oci_runtime = oci_runtime

    async def carrier(self, wanted: Carrier | Literal["auto"]) -> Carrier:
        """Return "socket" where the engine shares this host's kernel and files, else "attach"."""
        if wanted != "auto":
            return wanted
        client = await self._engine.client()
        version = await self._engine.call("tell its version", lambda client: client.version())
        local = client.base_url.startswith("http+docker://") and "ssh" not in client.base_url
        same_kernel = version.get("Os") == "linux" and version.get("KernelVersion") == os.uname().release
        return "socket" if local and same_kernel else "attach"

    @asynccontextmanager
    async def open(self, spec: SandboxSpec) -> AsyncIterator[Sandbox]:
        """Start a container as `SandboxRuntime.open` promises."""
        carrier = await self.carrier(spec.carrier)
        async with AsyncExitStack() as stack:
            created: list[_Created] = []
            stack.push_async_callback(self._remove_all, created)
            async with asyncio.timeout(spec.start_timeout) as deadline:
                try:
                    endpoint = await self._start(spec, carrier, created, stack)
                    hello = await endpoint.receive(Channel.CONTROL)
                except TimeoutError:
                    if not deadline.expired():
                        raise
                    raise EngineTimeout(
                        f"the container did not call back within {spec.start_timeout:.0f} s; is the image whole? "
                        "`rlm-kernel image build --rebuild` makes it anew"
                    ) from None
            endpoint.release(hello)
            seen = read_hello(hello.payload, spec, created[0].uid)
            version = await self._engine.call("tell its version", lambda client: client.version())
            yield Sandbox(
                runtime=self._oci_runtime or "default",
                engine=f"{version['Platform']['Name'] or 'docker'} {version['Version']}".strip(),
                container=created[0].container,
                image=spec.image,
                carrier=carrier,
                uid=created[0].uid,
                seen=seen,
                endpoint=endpoint,
            )

    async def aclose(self) -> None:
        """Close the connection to the engine."""
        await self._engine.aclose()

    async def _start(
        self, spec: SandboxSpec, carrier: Carrier, created: list[_Created], stack: AsyncExitStack
    ) -> Endpoint:
        loop = asyncio.get_running_loop()
        if carrier == "socket":
            listener = stack.enter_context(_listen(spec.folder))
            await self._create(spec, carrier, created)
            await self._engine.call("start the container", partial(_start_container, created[0].container))
            connection, _ = await loop.sock_accept(listener)
            # One guest, one connection: whoever comes later finds nothing to connect to.
            listener.close()
            (spec.folder / SOCKET_NAME).unlink()
            _, endpoint = await loop.connect_accepted_socket(Endpoint, connection)
        else:
            await self._create(spec, carrier, created)
            connection = await self._engine.call(
                "attach to the container", partial(attached_socket, created[0].container)
            )
            _, endpoint = await loop.create_connection(lambda: Endpoint(Demultiplexer().feed), sock=connection)
            stack.callback(endpoint.close)
            await self._engine.call("start the container", partial(_start_container, created[0].container))
        stack.callback(endpoint.close)
        return endpoint

    async def _create(self, spec: SandboxSpec, carrier: Carrier, created: list[_Created]) -> None:
        """Create the container under a uid that no other session has.

        The engine holds names unique, so the name claims the uid, for all users and hosts of this engine, exactly as
        long as the container exists.
        """
        for uid in _candidates(spec):
            try:
                await self._engine.call(
                    "create the container",
                    lambda client, uid=uid: created.append(  # type: ignore[misc]
                        _Created(uid, _create_container(client, spec, carrier, uid, self._oci_runtime))
                    ),
                )
            except docker.errors.APIError as error:
                if error.status_code == 409:
                    continue
                raise failed("create the container", error) from None
            return
        raise SandboxError(
            f"all uids from {spec.first_uid} to {spec.last_uid} are taken: remove old containers with "
            f"`docker rm -f $(docker ps -aq --filter label={LABEL})`, or widen the range"
        )

    async def _remove_all(self, created: list[_Created]) -> None:
        for item in created:
            removal = asyncio.ensure_future(self._engine.call("remove the container", partial(_remove, item.container)))
            try:
                await asyncio.shield(removal)
            except asyncio.CancelledError:
                await asyncio.wait({removal}, timeout=REMOVAL_DEADLINE)
                raise
            except docker.errors.APIError as error:
                raise failed("remove the container", error) from None


@dataclass(frozen=True, slots=True)
class _Created:
    uid: int
    container: str


def _candidates(spec: SandboxSpec) -> list[int]:
    """Return up to 64 uids of the range in random order, without those that have an account on this host."""
    if spec.first_uid < 1000 or spec.last_uid >= 65534 or spec.first_uid > spec.last_uid:
        raise SandboxRefused(
            f"the uid range {spec.first_uid}-{spec.last_uid} is not allowed: choose one between 1000 and 65533"
        )
    span = range(spec.first_uid, spec.last_uid + 1)
    return [uid for uid in secrets.SystemRandom().sample(span, min(64, len(span))) if not _has_account(uid)]


def _has_account(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


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


def _create_container(
    client: docker.APIClient, spec: SandboxSpec, carrier: Carrier, uid: int, oci_runtime: str | None
) -> str:
    host_config = client.create_host_config(
        auto_remove=True,
        cap_drop=["ALL"],
        ipc_mode="private",
        log_config=LogConfig(type="none"),
        mem_limit=spec.memory,
        memswap_limit=spec.memory,
        mounts=[Mount(GUEST_SHARED, str(spec.folder), type="bind", read_only=True)] if carrier == "socket" else [],
        nano_cpus=int(spec.cpus * 1e9),
        network_mode="none",
        pids_limit=spec.pids,
        read_only=True,
        runtime=oci_runtime,
        security_opt=["no-new-privileges:true"],
        shm_size=spec.shm_size,
        tmpfs={
            GUEST_TMP: f"rw,nosuid,nodev,noexec,size={spec.tmp_size},mode=0700,uid={uid},gid={uid}",
            GUEST_PRIVATE: f"rw,nosuid,nodev,noexec,size={spec.private_size},mode=0700,uid={uid},gid={uid}",
        },
        ulimits=[Ulimit(name="nofile", soft=spec.nofile, hard=spec.nofile), Ulimit(name="core", soft=0, hard=0)],
    )
    attach = carrier == "attach"
    config: dict[str, Any] = client.create_container_config(
        image=spec.image,
        command=[],
        user=f"{uid}:{uid}",
        hostname="sandbox",
        environment={"RLM_CARRIER": carrier},
        stdin_open=attach,
        labels={LABEL: "session", f"{LABEL}.uid": str(uid), f"{LABEL}.owner": f"{os.getuid()}:{os.getpid()}"},
        host_config=host_config,
        network_disabled=True,
    )
    config["StdinOnce"] = attach
    config["AttachStdin"] = config["AttachStdout"] = attach
    config["AttachStderr"] = False
    created: dict[str, Any] = client.create_container_from_config(config, name=f"rlm-kernel-{uid}")  # type: ignore[no-untyped-call]
    return str(created["Id"])


def _start_container(container: str, client: docker.APIClient) -> None:
    try:
        client.start(container)
    except docker.errors.NotFound as error:
        raise SandboxLost(f"the container ended as it started: {error.explanation}") from None
    except docker.errors.APIError as error:
        raise failed("start the container", error) from None


def _remove(container: str, client: docker.APIClient) -> None:
    """Kill and remove; the engine may be at it already, as the container ends with its stream."""
    try:
        client.remove_container(container, force=True)
    except docker.errors.NotFound:
        return
    except docker.errors.APIError as error:
        if error.status_code != 409:
            raise
        try:
            client.wait(container, timeout=REMOVAL_DEADLINE, condition="removed")
        except docker.errors.NotFound:
            return
