"""What the layers below need for a run, made of its settings: each part in one function."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rlm_kernel.assembly.models import Models
from rlm_kernel.bridge import Models as Offered
from rlm_kernel.budget import Budget
from rlm_kernel.config import Settings
from rlm_kernel.controller import ControllerLimits
from rlm_kernel.sandbox.docker import DockerRuntime
from rlm_kernel.sandbox.image import image_tag
from rlm_kernel.sandbox.spec import SandboxSpec
from rlm_kernel.sandbox.stored import Stored
from rlm_kernel.session import SessionSpec, SlotPool
from rlm_kernel.tools import Toolbox


def sandbox_spec(settings: Settings) -> SandboxSpec:
    """Return what a session's container is to be like."""
    return SandboxSpec(
        image=image_tag(),
        folder=settings.sessions_dir,
        memory=settings.memory,
        cpus=settings.cpus,
        pids=settings.pids,
        nofile=settings.nofile,
        tmp_size=settings.tmp_size,
        first_uid=settings.uid_first,
        last_uid=settings.uid_last,
        carrier=settings.carrier,
    )


def session_spec(settings: Settings, context: Stored, models: Models, tools: Toolbox, children: Offered) -> SessionSpec:
    """Return what a session over `context` is made of, and which models, tools and sessions its cells may call."""
    return SessionSpec(
        sandbox=sandbox_spec(settings),
        context=context,
        models={None: models.sub, models.sub.name: models.sub},
        cell_timeout=settings.cell_timeout,
        parallel_subcalls=settings.max_parallel_subcalls,
        max_reply_tokens=settings.max_reply_tokens,
        rebuild=settings.rebuild,
        children=children,
        budget=models.budget,
        chunk_strategy=settings.default_chunk_strategy,
        tools=tools,
    )


def controller_limits(
    settings: Settings, budget: Budget, *, may_recurse: bool, subcall_characters: int
) -> ControllerLimits:
    """Return how far the root model may go with one question."""
    return ControllerLimits(
        max_turns=settings.max_turns,
        shown_characters=settings.shown_output,
        max_reply_tokens=settings.max_reply_tokens,
        cell_seconds=settings.cell_timeout,
        may_recurse=may_recurse,
        subcall_characters=subcall_characters,
        budget=budget,
    )


@asynccontextmanager
async def open_slots(settings: Settings, size: int = 0) -> AsyncIterator[SlotPool]:
    """Open a pool that keeps `size` sandboxes started ahead, on the engine that the settings name."""
    runtime = DockerRuntime(settings.docker_host, oci_runtime=settings.oci_runtime)
    try:
        async with SlotPool(runtime, sandbox_spec(settings), size) as slots:
            yield slots
    finally:
        await runtime.aclose()
