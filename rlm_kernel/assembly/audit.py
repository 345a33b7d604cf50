"""`audit_engine`: the audit on the engine and with the limits that the settings name."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

from rlm_kernel.assembly.parts import sandbox_spec
from rlm_kernel.audit import Finding, Report, Subject, audit
from rlm_kernel.config import Settings
from rlm_kernel.sandbox.contexts import ContextStore
from rlm_kernel.sandbox.docker import DockerRuntime
from rlm_kernel.sandbox.engine import Engine


async def audit_engine(settings: Settings, tell: Callable[[Finding], None]) -> Report:
    """Audit sessions as `settings` would make them; raise what `audit` raises, and `StorageError`."""
    async with AsyncExitStack() as stack:
        runtime = DockerRuntime(settings.docker_host, oci_runtime=settings.oci_runtime)
        stack.push_async_callback(runtime.aclose)
        engine = Engine(settings.docker_host)
        stack.push_async_callback(engine.aclose)
        store = ContextStore(settings.contexts_dir)
        return await audit(Subject(runtime=runtime, engine=engine, store=store, spec=sandbox_spec(settings)), tell)
