"""One session's container from its creation to its removal, in calls of the engine that block."""

from __future__ import annotations

import pwd
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import docker
import docker.errors
from docker.types import LogConfig, Mount, Ulimit

from rlm_kernel.errors import SandboxError, SandboxLost, SandboxRefused
from rlm_kernel.sandbox.engine import refused
from rlm_kernel.sandbox.oci import OciRuntime, check_used
from rlm_kernel.sandbox.owner import owner
from rlm_kernel.sandbox.spec import GUEST_PRIVATE, GUEST_SHARED, GUEST_TMP, Carrier, SandboxSpec
from rlm_kernel.sandbox.verify import check_inspected, check_unseen
from rlm_kernel.version import __version__

LABEL = "io.rlm-kernel"
CONFLICT = 409
VAR_TMP = "/var/tmp"  # noqa: S108 - a path inside the container
UIDS_TRIED = 64
REMOVAL_DEADLINE = 20


@dataclass(slots=True)
class Container:
    """One container; `id`, `uid` and `inspected` are known as soon as the engine has told them."""

    spec: SandboxSpec
    carrier: Carrier
    oci: OciRuntime = field(default_factory=OciRuntime)
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))
    begun: bool = False
    id: str = ""
    uid: int = 0
    inspected: dict[str, Any] = field(default_factory=dict)

    def create(self, client: docker.APIClient) -> None:
        """Create the container under a uid that no other session has.

        The engine holds names unique, so the name claims the uid, for all users and hosts of this engine, exactly as
        long as the container exists.
        """
        self.begun = True
        for uid in _candidates(self.spec):
            config = _config(client, self, uid)
            try:
                created: dict[str, Any] = client.create_container_from_config(config, name=f"rlm-kernel-{uid}")  # type: ignore[no-untyped-call]
            except docker.errors.ImageNotFound:
                raise
            except docker.errors.APIError as error:
                if error.status_code == CONFLICT or "already in use" in str(error):  # Podman: 500 and these words
                    continue
                unseen = any(words in str(error) for words in ("bind source", "volume mountpoint"))
                hint = ": it does not see this host's files, so use --carrier attach" if unseen else ""
                raise SandboxError(f"{refused('create the container', error)}{hint}") from None
            self.uid, self.id = uid, str(created["Id"])
            return
        raise SandboxError(
            f"no free uid from {self.spec.first_uid} to {self.spec.last_uid} was found in {UIDS_TRIED} tries: remove "
            "what killed sessions left with `rlm-kernel gc`, or widen the range"
        )

    def start(self, client: docker.APIClient) -> None:
        """Start the container and check what can't be seen from inside."""
        try:
            client.start(self.id)
            self.inspected = client.inspect_container(self.id)
        except docker.errors.NotFound as error:
            raise SandboxLost(f"the container ended as it started: {error.explanation}") from None
        except docker.errors.APIError as error:
            raise SandboxError(refused("start the container", error)) from None
        check_inspected(self.inspected)
        if self.oci.wanted is not None or self.oci.hides:
            self._check_kernel(client)

    def _check_kernel(self, client: docker.APIClient) -> None:
        """Check that it is the runtime that was asked for, and in the engine's words what its guest can't see."""
        check_used(client.info(), self.inspected, self.oci)
        if self.oci.hides:
            check_unseen(self.inspected, client.stats(self.id, stream=False, one_shot=True), self.spec)

    def wait(self, client: docker.APIClient) -> None:
        """Return when the container has ended."""
        with suppress(docker.errors.NotFound):
            client.wait(self.id, timeout=int(self.spec.start_timeout))

    def remove(self, client: docker.APIClient) -> None:
        """Kill and remove the container; the engine may be at it already, as a container ends with its stream.

        Where the creation gave no id, in a call that timed out say, the container is found by its label.
        """
        ids = [self.id] if self.id else _labelled(client, self.nonce)
        try:
            for container in ids:
                remove_container(client, container)
        except docker.errors.APIError as error:
            raise SandboxError(
                f"{refused('remove the container', error)}: remove it with `docker rm -f {' '.join(ids)}`"
            ) from None


def _labelled(client: docker.APIClient, nonce: str) -> list[str]:
    found = client.containers(all=True, filters={"label": [f"{LABEL}.session={nonce}"]})
    return [str(container["Id"]) for container in found]


def remove_container(client: docker.APIClient, container: str) -> None:
    """Kill and remove a container, whoever else is at it. Raise `docker.errors.APIError`."""
    with suppress(docker.errors.NotFound):
        for again in (True, False):
            try:
                client.remove_container(container, force=True)
            except docker.errors.APIError as error:
                if error.status_code == CONFLICT:
                    client.wait(container, timeout=REMOVAL_DEADLINE, condition="removed")
                elif (
                    again
                ):  # engines fail to kill what ends by itself in the same moment; after that it is as any other
                    continue
                else:
                    raise
            return


def _candidates(spec: SandboxSpec) -> Iterator[int]:
    """Yield uids of the range in random order, without those that have an account on this host."""
    if spec.first_uid < 1000 or spec.last_uid >= 65534 or spec.first_uid > spec.last_uid:
        raise SandboxRefused(
            f"the uid range {spec.first_uid}-{spec.last_uid} is not allowed: choose one between 1000 and 65533"
        )
    span = range(spec.first_uid, spec.last_uid + 1)
    for uid in secrets.SystemRandom().sample(span, min(UIDS_TRIED, len(span))):
        try:
            pwd.getpwuid(uid)
        except KeyError:
            yield uid


def _config(client: docker.APIClient, container: Container, uid: int) -> dict[str, Any]:
    spec, attach = container.spec, container.carrier == "attach"
    host_config = client.create_host_config(
        auto_remove=True,
        cap_drop=["ALL"],
        ipc_mode="private",
        log_config=LogConfig(type="none"),
        mem_limit=spec.memory,
        memswap_limit=spec.memory,
        mounts=[] if attach else [Mount(GUEST_SHARED, str(spec.folder), type="bind", read_only=True)],
        nano_cpus=int(spec.cpus * 1e9),
        network_mode="none",
        pids_limit=spec.pids,
        read_only=True,
        runtime=container.oci.wanted,
        security_opt=["no-new-privileges:true"],
        shm_size=spec.shm_size,
        tmpfs={
            # Their owner is root, as not every engine can name another; there is one user inside.
            GUEST_TMP: f"rw,nosuid,nodev,noexec,size={spec.tmp_size},mode=1777",
            GUEST_PRIVATE: f"rw,nosuid,nodev,noexec,size={spec.private_size},mode=1777",
            # Where the root is read-only, Podman mounts one here that is neither, unless there is one.
            VAR_TMP: "ro,nosuid,nodev,noexec,size=4096",
        },
        ulimits=[
            Ulimit(name=name, soft=most, hard=most)
            for name, most in (("nofile", spec.nofile), ("nproc", spec.pids), ("core", 0))
        ],
    )
    config: dict[str, Any] = client.create_container_config(
        image=spec.image,
        command=[],
        user=f"{uid}:{uid}",
        hostname="sandbox",
        environment={"RLM_CARRIER": container.carrier, "RLM_LEASE": str(spec.lease), "RLM_SEED": str(spec.seed)},
        stdin_open=attach,
        stop_signal="SIGKILL",  # PID 1 ignores others, and an engine that shuts down would wait for it
        labels={
            LABEL: "session",
            f"{LABEL}.session": container.nonce,
            f"{LABEL}.owner": owner(),
            f"{LABEL}.version": __version__,
        },
        host_config=host_config,
        network_disabled=True,
    )
    return config | {"StdinOnce": attach, "AttachStdin": attach, "AttachStdout": attach, "AttachStderr": False}
