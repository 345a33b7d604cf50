"""The sandboxes of one session, one after the other: each taken as a slot, bound to the context, and given back."""

from __future__ import annotations

from dataclasses import replace

from rlm_kernel.events import EventSink, KernelReady, SandboxStarted
from rlm_kernel.kernel import Binding, BoundContext, KernelClient
from rlm_kernel.sandbox.spec import Sandbox, SandboxSpec
from rlm_kernel.sandbox.stored import Stored, StoredContext, link_into
from rlm_kernel.session.pool import SlotPool
from rlm_kernel.session.slot import Slot
from rlm_kernel.stream import Endpoint


class Life:
    """Holds a session's sandbox of the moment; those that come after the first have its seed."""

    def __init__(
        self,
        slots: SlotPool,
        spec: SandboxSpec,
        context: Stored,
        sink: EventSink,
        binding: Binding,
    ) -> None:
        """`binding` is what the kernel is told beside the context."""
        self._slots = slots
        self._spec = spec
        self._context = context
        self._sink = sink
        self._binding = binding
        self._slot: Slot | None = None

    @property
    def kernel(self) -> KernelClient:
        """The sandbox's kernel."""
        assert self._slot is not None
        return self._slot.kernel

    @property
    def endpoint(self) -> Endpoint:
        """The stream to the sandbox."""
        assert self._slot is not None
        return self._slot.sandbox.endpoint

    async def begin(self) -> KernelReady:
        """Start in a sandbox, in another one if there was one already, and wait for its kernel.

        Raise what `SlotPool.take` and `KernelClient.start` raise; `end` is still to be called then.
        """
        kernels_before = 0 if self._slot is None else self.kernel.generation
        self._leave()
        self._slot = await self._slots.take(self._spec)
        sandbox = self._slot.sandbox
        self._spec = replace(self._spec, seed=sandbox.seed)
        if sandbox.carrier == "socket":
            link_into(self._context, self._slot.folder)
        self._sink.emit(_started(sandbox))
        contexts = tuple(map(_bound, self._context.parts))
        binding = replace(self._binding, contexts=contexts, streamed=sandbox.carrier == "attach")
        return await self.kernel.start(binding, self._sink, kernels_before=kernels_before)

    def prepare(self) -> None:
        """Let another sandbox start in the background: `begin` is to follow."""
        self._slots.prepare(self._spec)

    def end(self) -> None:
        """Hear nothing of the sandbox any more and let it end, and what was prepared; safe to call twice."""
        self._slots.spare(self._spec)
        self._leave()

    def _leave(self) -> None:
        if self._slot is not None:
            self.endpoint.close()
            self._slot.release()


def _started(sandbox: Sandbox) -> SandboxStarted:
    return SandboxStarted(
        runtime=sandbox.runtime,
        oci_runtime=sandbox.oci_runtime,
        engine=sandbox.engine,
        container=sandbox.container,
        image=sandbox.image,
        image_id=sandbox.image_id,
        carrier=sandbox.carrier,
        uid=sandbox.uid,
        seen=sandbox.seen,
        seed=sandbox.seed,
        packages=sandbox.packages,
    )


def _bound(part: StoredContext) -> BoundContext:
    return BoundContext(
        kind=part.kind,
        size=part.size,
        index_size=part.index_path.stat().st_size if part.index_path else 0,
        files=(part.path, part.index_path) if part.index_path else (part.path,),
        name=part.name,
        picture=part.picture,
    )
