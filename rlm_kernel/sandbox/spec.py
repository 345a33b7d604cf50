"""What a sandbox must be, and the port that runtimes are behind."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from secrets import randbits
from typing import Literal, Protocol

from rlm_kernel.stream import Endpoint
from rlm_kernel.types import JSON

Carrier = Literal["socket", "attach"]

GUEST_TMP = "/tmp"  # noqa: S108 - a path inside the container
GUEST_PRIVATE = "/run/rlm-guest"
GUEST_SHARED = "/run/rlm"
SOCKET_NAME = "stream"
SEED_BITS = 32
"""What Python takes to seed its hashes with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """The isolation and the limits of one session; sizes are in bytes.

    `folder` is the session's own folder on the host. Its content is visible to the guest, read-only, where the
    engine shares the host's file system. `private_size` is the room for the kernel's sockets and, where the context
    comes over the stream, for the context. A guest that hears nothing of its host for `lease` seconds ends by itself.
    `seed`, from 0 to 2**32 - 1, is that of the kernels' hashes and of `random` in them; None means another one for each
    sandbox.
    """

    image: str
    folder: Path
    memory: int
    cpus: float
    pids: int
    nofile: int
    tmp_size: int
    first_uid: int
    last_uid: int
    private_size: int = 4 * 1024 * 1024
    shm_size: int = 16 * 1024 * 1024
    carrier: Carrier | Literal["auto"] = "auto"
    start_timeout: float = 60.0
    lease: float = 60.0
    seed: int | None = None

    def seeded(self) -> SandboxSpec:
        """Return the same with a seed, a fresh one if it has none."""
        return self if self.seed is not None else replace(self, seed=randbits(SEED_BITS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """A running container whose limits were read back from inside and hold.

    `runtime` is ours, `oci_runtime` the engine's; `image_id` is the image's digest. `seen` is what the guest read: its
    uid, capabilities, seccomp mode, mounts, limits and network interfaces. `seed` is the spec's or the one that was
    chosen, `packages` are the versions of what the image holds, by name, as its build noted them.
    """

    runtime: str
    oci_runtime: str
    engine: str
    container: str
    image: str
    image_id: str
    carrier: Carrier
    uid: int
    seen: dict[str, JSON]
    endpoint: Endpoint
    seed: int | None = None
    packages: dict[str, str] = field(default_factory=dict)


class SandboxRuntime(Protocol):
    """Starts sandboxes on one container engine."""

    async def carrier(self, wanted: Carrier | Literal["auto"]) -> Carrier:
        """Return the carrier that `wanted` means on this engine. Raise `EngineUnavailable`."""

    def open(self, spec: SandboxSpec) -> AbstractAsyncContextManager[Sandbox]:
        """Start a container as `spec` says and remove it on exit, after an error and a cancel too.

        Raise `EngineUnavailable`, `EngineTimeout`, `ImageMissing`, `SandboxLost`, or `SandboxRefused` where the
        engine can't give what `spec` asks for; nothing is left then.
        """

    async def aclose(self) -> None:
        """Close the connection to the engine."""
