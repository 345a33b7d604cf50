"""The kernel client: runs cells over the stream, with a time limit, whatever the guest sends or leaves out."""

from __future__ import annotations

import asyncio

import msgspec

from rlm_kernel.errors import GuestProtocolError, KernelFailed, SandboxLost
from rlm_kernel.events import (
    CellOutput,
    CellOutputCleared,
    CellStarted,
    ContextChunked,
    EventSink,
    KernelLost,
    KernelReady,
)
from rlm_kernel.guest.wire import Channel, Message
from rlm_kernel.kernel.binding import Binding
from rlm_kernel.kernel.chunked import MOST_RECORDED, Chunked, read_chunked
from rlm_kernel.kernel.ladder import Stop, record, wait_for_end
from rlm_kernel.kernel.messages import (
    BindFailed,
    ClearContent,
    ControlMessage,
    Cut,
    Envelope,
    KernelDied,
    KernelReadyMessage,
    KernelWarm,
    ReplyContent,
    Restarted,
    StatusContent,
    control,
    decode,
    decode_lenient,
    execute_request,
)
from rlm_kernel.kernel.result import CellResult
from rlm_kernel.kernel.running import RunningCell, finished
from rlm_kernel.kernel.start import FIRST_DEADLINE, RESTART_DEADLINE, KernelStart
from rlm_kernel.stream import Endpoint
from rlm_kernel.types import JSON

MAX_SILENT = 2
"""Cells that end without a reply, but for those that were stopped, until a kernel counts as broken."""


class KernelClient:
    """Drives the kernel at the other end of `endpoint`; one cell at a time."""

    _sink: EventSink
    _binding: Binding

    def __init__(self, endpoint: Endpoint) -> None:
        self.warm = asyncio.Event()
        """Set when the kernel has loaded and would be ready as soon as it has its context."""
        self.lost: SandboxLost | None = None
        """Why the sandbox is gone, once a cell's result has told so."""
        self.files_lost = False
        """Whether files that cells wrote are gone and nobody was told."""
        self.names: tuple[str, ...] = ()
        """The variables that cells have made, as far as the kernel told."""
        self._endpoint = endpoint
        self._start: KernelStart | None = None
        self._running: RunningCell | None = None
        self._earlier: dict[str, RunningCell] = {}
        self._fatal: RunningCell | None = None
        """The cell that cost the latest kernel that was lost."""
        self._generation = self._kernels_before = 0
        self._silent = 0
        self._dead: KernelDied | None = None
        """The kernel's end while no cell ran; the next cell reports it."""
        endpoint.handle(Channel.CONTROL, self._on_control)
        endpoint.handle(Channel.SHELL, self._on_shell)
        endpoint.handle(Channel.IOPUB, self._on_iopub)

    @property
    def generation(self) -> int:
        """The latest kernel's number, counted over all sandboxes of the session."""
        return self._kernels_before + self._generation

    async def start(self, binding: Binding, sink: EventSink, *, kernels_before: int = 0) -> KernelReady:
        """Bind the contexts and wait for the kernel; events go to `sink`. Raise `KernelFailed` or `SandboxLost`."""
        self._sink = sink
        self._binding = binding
        self._kernels_before = kernels_before
        self._start = KernelStart(self._endpoint, FIRST_DEADLINE)
        self._endpoint.send(Channel.CONTROL, binding.message())
        for piece in binding.pieces():
            self._endpoint.send(Channel.CONTEXT, piece)
            await self._endpoint.sent(Channel.CONTEXT)
        return await self._start.ready()

    async def usable(self) -> None:
        """Wait for the successor of a lost kernel. Raise `KernelFailed` or `SandboxLost` if there will be none."""
        if self.lost is not None:
            raise self.lost
        assert self._start is not None
        await self._start.ready()

    async def run(
        self,
        code: str,
        *,
        cell: int,
        turn: int,
        time_limit: float | None = None,
        stop: Stop | None = None,
        clock: float | None = None,
    ) -> CellResult:
        """Run one cell for at most `time_limit` seconds, or until `stop`, and return its result; `usable` goes first.

        The wall clock shows `clock` as it begins, in seconds since 1970, and ticks on; None is the real time.
        A cell that goes over is asked to end. One that does not costs the kernel, as a crash does: `lost` names the
        variables that are gone then, and the next kernel is on its way. Raise why the stream was lost where that is
        no `SandboxLost`. After a cancel the kernel may still be busy: close the sandbox.
        """
        self._sink.emit(CellStarted(cell=cell, turn=turn, code=code))
        msg_id, request = execute_request(code, clock)
        running = self._running = RunningCell(cell, msg_id)
        try:
            if stop is not None and stop.done():
                running.interrupted = stop.result()
            elif self._dead is not None:
                running.died, self._dead = self._dead, None
            else:
                self._endpoint.send(Channel.SHELL, request)
                await wait_for_end(self._endpoint, running, self._sink, time_limit, stop)
                if running.reply is not None:
                    self._silent = 0
                elif running.interrupted in (None, "timed_out"):  # a stop as the cell begins may cost a reply
                    self._silent += 1
                if not running.ended.done() or self._silent == MAX_SILENT:
                    running.deaf = True
        finally:
            running.end()
            self._running = None
            self._earlier[msg_id] = running
        lost = self._lose(running) if running.kernel_lost else None
        self.names = tuple(running.said().names) or self.names
        result = running.result(lost)
        running.reply = None
        self.record_late_cuts()
        self._sink.emit(finished(result))
        return result

    def record_late_cuts(self) -> None:
        """Record how much of earlier cells' outputs was left out since their ends, as output of those cells."""
        for cell in self._earlier.values():
            if late := cell.late_cut():
                text = f"[… {late} bytes cut after the end of the cell …]\n"
                output: dict[str, JSON] = {"output_type": "stream", "name": "stderr", "text": text}
                self._sink.emit(CellOutput(cell=cell.cell, output=output, late=True))

    def record_replacement(self) -> None:
        """Record that the sandbox is to be replaced, as the last step against the cell that led to it."""
        if self._fatal is not None:
            record(self._fatal, self._sink, "replace")

    def restart(self, why: str) -> None:
        """Give up the kernel and all its variables for a new one, which `usable` waits for."""
        self.names, self._silent = (), 0
        self._sink.emit(KernelLost(generation=self.generation, reason=why))
        self._send_control("restart")
        self._start = KernelStart(self._endpoint, RESTART_DEADLINE, acknowledged=False)

    def _lose(self, running: RunningCell) -> tuple[str, ...]:
        """Order a new kernel, if the sandbox lives, and return the names that are lost."""
        lost, self.names, self._silent = self.names, (), 0
        self._fatal = running
        self.lost = running.sandbox_lost
        if self.lost is None:
            record(running, self._sink, "restart")
        self._sink.emit(KernelLost(generation=self.generation, reason=running.why_lost(), lost=list(lost)))
        if self.lost is None:
            self._send_control("restart")
            self._start = KernelStart(self._endpoint, RESTART_DEADLINE, acknowledged=False)
        return lost

    def _on_control(self, message: Message) -> None:
        content: ControlMessage = decode(message.payload, ControlMessage)  # type: ignore[arg-type]
        self._endpoint.release(message)
        if self._start is None and isinstance(content, KernelReadyMessage | BindFailed):
            raise GuestProtocolError("the container spoke of its context before it was told of one")
        match content:
            case KernelWarm():
                self.warm.set()
            case Restarted() if self._starting is not None and content.generation > self._generation:
                self._starting.acknowledge()
            case KernelReadyMessage():
                self._on_ready(content)
            case BindFailed() if self._starting is not None:
                self._starting.fail(f"the context could not be loaded: {content.message[:500]}")
            case KernelDied():
                self._on_died(content)
            case Cut() if (cell := self._cell(content.cell_msg_id)) is not None:
                cell.outputs.add_cut(content.bytes)

    @property
    def _starting(self) -> KernelStart | None:
        """The start that is under way, if one is."""
        return self._start if self._start is not None and not self._start.outcome.done() else None

    def _on_ready(self, message: KernelReadyMessage) -> None:
        if self._starting is None or message.generation <= self._generation:
            return
        self._generation = message.generation
        ready = KernelReady(
            generation=self.generation,
            context_type=message.context_type,
            context_length=message.context_length,
            emptied=message.emptied,
            contexts=self._binding.seen(message),
        )
        self.files_lost |= message.emptied
        self._sink.emit(ready)
        self._starting.outcome.set_result(ready)

    def _on_died(self, death: KernelDied) -> None:
        why = (
            "its memory limit is too small, allow more with --memory"
            if death.oom
            else f"it ended with status {death.code}"
        )
        if self._start is None:
            self._endpoint.fail(KernelFailed(f"the kernel could not start: {why}"))
        elif self._starting is not None:
            if death.generation > self._generation:  # else it is the kernel that is being replaced
                self._starting.fail(f"the kernel could not start: {why}")
        elif self._running is not None:
            self._running.died = death
            self._running.end()
        else:
            self._dead = death

    def _on_shell(self, message: Message) -> None:
        envelope = decode(message.payload, Envelope)
        self._endpoint.release(message)
        running = self._running
        if (
            running is None
            or envelope.parent_header.msg_id != running.msg_id
            or envelope.header.msg_type != "execute_reply"
        ):
            return
        running.reply = decode(envelope.content, ReplyContent)
        running.outputs.add_cut(running.reply.rlm_cut)
        running.advance()

    def _on_iopub(self, message: Message) -> None:
        envelope = decode(message.payload, Envelope)
        self._endpoint.release(message)
        if (cell := self._cell(envelope.parent_header.msg_id)) is not None:
            self._take(cell, envelope)
        if self._running is not None:
            self._running.advance()

    def _take(self, cell: RunningCell, envelope: Envelope) -> None:
        if envelope.header.msg_type == "status":
            cell.idle |= decode(envelope.content, StatusContent).execution_state == "idle"
        elif envelope.header.msg_type == "clear_output":
            clear = decode_lenient(envelope.content, ClearContent) or ClearContent()
            if cell.outputs.clear(clear.wait):
                self._sink.emit(CellOutputCleared(cell=cell.cell, wait=clear.wait))
        elif (chunked := read_chunked(envelope)) is not None:
            self._record_chunked(cell, chunked)
        elif (output := cell.outputs.take(envelope)) is not None:
            self._sink.emit(
                CellOutput(
                    cell=cell.cell,
                    output=output.content,
                    late=cell is not self._running,
                    display_id=output.display_id,
                    update=output.update,
                )
            )

    def _record_chunked(self, cell: RunningCell, chunked: Chunked) -> None:
        """Record what the running cell cut; a guest that tells of more, or afterwards, is not listened to."""
        cell.chunked += 1
        if cell is self._running and cell.chunked <= MOST_RECORDED:
            self._sink.emit(ContextChunked(cell=cell.cell, **msgspec.structs.asdict(chunked)))

    def _cell(self, msg_id: str) -> RunningCell | None:
        if self._running is not None and self._running.msg_id == msg_id:
            return self._running
        return self._earlier.get(msg_id)

    def _send_control(self, kind: str, **fields: JSON) -> None:
        self._endpoint.send(Channel.CONTROL, control(kind, **fields))
