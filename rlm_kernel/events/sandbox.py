"""Events of containers and of the kernels in them."""

from __future__ import annotations

from typing import Literal

import msgspec

from rlm_kernel.events.base import Event
from rlm_kernel.types import JSON


class SandboxStarted(Event, frozen=True, kw_only=True):
    """A container runs and its limits were read back from inside (`seen`). Another one takes the place of one lost.

    `runtime` is ours, `oci_runtime` the engine's; `image` is a tag, `image_id` the digest it stood for. `seed` is that
    of Python's hashes and of `random` in its kernels (None: not pinned), `packages` are the versions of what is
    installed in it, by name, that of `python` among them.
    """

    runtime: str
    oci_runtime: str
    engine: str
    container: str
    image: str
    image_id: str
    carrier: Literal["socket", "attach"]
    uid: int
    seen: dict[str, JSON]
    seed: int | None = None
    packages: dict[str, str] = msgspec.field(default_factory=dict)


class KernelReady(Event, frozen=True, kw_only=True):
    """The kernel answers and `context` is bound; generation 1 is the first, each restart adds one.

    `context_type` is the guest's word for the variable's type, `context_length` its `len()`. `emptied`: the files that
    cells had written were removed, as the kernel needed their room. `contexts` has type and length of each variable by
    name, where there are several.
    """

    generation: int
    context_type: str
    context_length: int
    emptied: bool = False
    contexts: dict[str, tuple[str, int]] = msgspec.field(default_factory=dict)


class KernelLost(Event, frozen=True, kw_only=True):
    """The kernel of `generation` died or has to be killed, and its variables go with it; `lost` names them.

    A `KernelReady` of the next generation follows once there is a new kernel.
    """

    generation: int
    reason: str
    lost: list[str] = msgspec.field(default_factory=list)


class KernelRebuilt(Event, frozen=True, kw_only=True):
    """The finished cells were run again in the kernel of `generation`, with their recorded answers and unrecorded.

    `cells` ended as before, `names` are the variables that are back, and `failed` says why the next cell did not.
    """

    generation: int
    cells: list[int]
    names: list[str]
    seconds: float
    failed: str | None = None
