"""The kernel client: runs cells over the stream, with a time limit, whatever the guest sends or leaves out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from rlm_kernel.errors import KernelFailed
from rlm_kernel.events import (
    CellFinished,
    CellOutput,
    CellOutputCleared,
    CellStarted,
    CellStatus,
    EventSink,
    KernelLost,
    KernelReady,
)
from rlm_kernel.guest.wire import FRAME_LIMIT, Channel, Message
from rlm_kernel.kernel.messages import (
    CELL_MIME,
    BindFailed,
    CellEnd,
    CellEndBundle,
    ClearContent,
    ControlMessage,
    Cut,
    Envelope,
    KernelDied,
    KernelReadyMessage,
    KernelWarm,
    ReplyContent,
    StatusContent,
    decode,
    decode_lenient,
    execute_request,
)
from rlm_kernel.kernel.outputs import MAX_WEIGHT, Outputs, weight
from rlm_kernel.kernel.result import CellResult, Final
from rlm_kernel.stream import Endpoint
from rlm_kernel.types import JSON

START_DEADLINE = 60.0
SILENCE = 3.0
"""Seconds without output after which a cell ends on one of its two signs, the reply and the idle status.

A busy machine may hold up either for a second or so; what it holds up longer would count as lost.
"""
INTERRUPT_DEADLINE = 1.5
MAX_SILENT = 2
"""Cells in a row that end without a reply, after which the kernel counts as broken; an interrupt may cost one reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundContext:
    """What the kernel is to bind as `context`: `size` and `index_size` in bytes.

    With `files` the host streams the blob and then its index; without, the guest finds them in its shared folder.
    """

    kind: Literal["str", "files", "json"]
    size: int
    index_size: int
    files: tuple[Path, ...] = ()


@dataclass(slots=True)
class _Running:
    """A cell from its request to its end."""

    cell: int
    msg_id: str
    outputs: Outputs = field(default_factory=Outputs)
    reply: ReplyContent | None = None
    idle: bool = False
    died: KernelDied | None = None
    last_call: asyncio.TimerHandle | None = None
    stopped: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    ended: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def end(self) -> None:
        """Let the cell be over; safe to call twice."""
        if self.last_call is not None:
            self.last_call.cancel()
        if not self.ended.done():
            self.ended.set_result(None)

    def advance(self) -> None:
        """End the cell on its reply and its idle status; either may be lost, so silence after one of them ends it."""
        if self.last_call is not None:
            self.last_call.cancel()
        if self.reply is not None and self.idle:
            self.end()
        elif self.reply is not None or self.idle:
            self.last_call = asyncio.get_running_loop().call_later(SILENCE, self.end)


class KernelClient:
    """Drives the kernel at the other end of `endpoint`; one cell at a time."""

    _sink: EventSink

    def __init__(self, endpoint: Endpoint) -> None:
        self.cells = 0
        """How many cells were started so far; the last one's number."""
        self.warm = asyncio.Event()
        """Set when the kernel has loaded and would be ready as soon as it has its context."""
        self._endpoint = endpoint
        self._bound = False
        self._running: _Running | None = None
        self._earlier: dict[str, _Running] = {}
        self._generation = 0
        self._silent = 0
        self._names: list[str] = []
        self._dead: KernelDied | None = None
        """The kernel's end while no cell ran; the next cell reports it."""
        self._ready: asyncio.Future[KernelReadyMessage] = asyncio.get_running_loop().create_future()
        endpoint.handle(Channel.CONTROL, self._on_control)
        endpoint.handle(Channel.SHELL, self._on_shell)
        endpoint.handle(Channel.IOPUB, self._on_iopub)

    async def start(self, context: BoundContext, sink: EventSink) -> KernelReady:
        """Bind `context` and wait for the kernel; events go to `sink`. Raise `KernelFailed` or `SandboxLost`."""
        self._sink = sink
        self._bound = True
        self._send_control(
            type="bind",
            context={
                "kind": context.kind,
                "source": "stream" if context.files else "file",
                "size": context.size,
                "index_size": context.index_size,
            },
        )
        for path in context.files:
            await self._send_file(path)
        return await self._wait_ready()

    async def run(self, code: str, *, turn: int, time_limit: float) -> CellResult:
        """Run one cell for at most `time_limit` seconds and return its result.

        A cell that goes over is interrupted; if it does not stop, the kernel is replaced and `lost` names the
        variables that went with it. Raise `SandboxLost`, `GuestProtocolError` or `KernelFailed`. After a cancel the
        kernel may still be busy: close the sandbox.
        """
        self.cells += 1
        self._sink.emit(CellStarted(cell=self.cells, turn=turn, code=code))
        msg_id, request = execute_request(code)
        running = self._running = _Running(self.cells, msg_id)
        started = time.monotonic()
        status: CellStatus | None = None
        try:
            if self._dead is None:
                self._endpoint.send(Channel.SHELL, request)
            else:
                running.died, self._dead = self._dead, None
                running.end()
            if not await self._end_of(running, time_limit, running.stopped):
                status = "interrupted" if running.stopped.done() else "timed_out"
                self._send_control(type="interrupt")
                await self._end_of(running, INTERRUPT_DEADLINE)
        finally:
            self._running = None
            self._earlier[msg_id] = running
        self._silent = 0 if running.reply is not None else self._silent + 1
        unusable = not running.ended.done() or running.died or self._silent == MAX_SILENT
        lost = await self._replace(running) if unusable else None
        end = _cell_end(running)
        if end.names:
            self._names = list(end.names)
        result = _result(running, status, end, time.monotonic() - started, lost)
        running.reply = None
        self._sink.emit(_finished(result))
        return result

    def stop(self) -> None:
        """Stop the running cell, if there is one, as its time limit would."""
        if self._running is not None and not self._running.stopped.done():
            self._running.stopped.set_result(None)

    async def _end_of(self, running: _Running, limit: float, *also: asyncio.Future[None]) -> bool:
        """Wait for the cell's end; False when `limit` seconds are over or `also` is done.

        Raise why the stream was lost.
        """
        ends: set[asyncio.Future[Any]] = {running.ended, self._endpoint.lost, *also}
        await asyncio.wait(ends, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        if self._endpoint.lost.done() and not running.ended.done():
            raise self._endpoint.lost.result()
        return running.ended.done()

    async def _replace(self, running: _Running) -> tuple[str, ...]:
        """Start a new kernel in the same container and return the names that are lost."""
        lost, self._names, self._silent = tuple(self._names), [], 0
        if running.died is None:
            reason = "the kernel does not stop or reply any more"
        elif running.died.oom:
            reason = "the cell used up the sandbox's memory"
        else:
            reason = f"the kernel process ended with status {running.died.code}"
        self._sink.emit(KernelLost(generation=self._generation, reason=reason, lost=list(lost)))
        self._ready = asyncio.get_running_loop().create_future()
        self._send_control(type="restart")
        await self._wait_ready()
        return lost

    async def _wait_ready(self) -> KernelReady:
        ends: set[asyncio.Future[Any]] = {self._ready, self._endpoint.lost}
        await asyncio.wait(ends, timeout=START_DEADLINE, return_when=asyncio.FIRST_COMPLETED)
        if self._endpoint.lost.done():
            raise self._endpoint.lost.result()
        if not self._ready.done():
            raise KernelFailed(
                f"the kernel did not start within {START_DEADLINE:.0f} s: give the session more memory or CPU"
            )
        message = self._ready.result()
        self._generation = message.generation
        ready = KernelReady(
            generation=message.generation,
            context_type=message.context_type,
            context_length=message.context_length,
        )
        self._sink.emit(ready)
        return ready

    def _on_control(self, message: Message) -> None:
        content: ControlMessage = decode(message.payload, ControlMessage)  # type: ignore[arg-type]
        self._endpoint.release(message)
        match content:
            case KernelWarm():
                self.warm.set()
            case KernelReadyMessage() if not self._ready.done() and content.generation > self._generation:
                self._ready.set_result(content)
            case BindFailed() if not self._ready.done():
                self._ready.set_exception(KernelFailed(f"the context could not be loaded: {content.message[:500]}"))
            case KernelDied():
                self._on_died(content)
            case Cut() if (cell := self._cell(content.cell_msg_id)) is not None:
                cell.outputs.add_cut(content.bytes)

    def _on_died(self, death: KernelDied) -> None:
        if not self._ready.done() and death.generation <= self._generation:
            return  # the kernel that is being replaced
        if self._running is not None:
            self._running.died = death
            self._running.end()
        elif not self._ready.done():
            why = "its memory limit is too small" if death.oom else f"it ended with status {death.code}"
            failure = KernelFailed(f"the kernel could not start: {why}")
            if self._bound:
                self._ready.set_exception(failure)
            else:
                self._endpoint.fail(failure)
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

    def _take(self, cell: _Running, envelope: Envelope) -> None:
        if envelope.header.msg_type == "status":
            cell.idle |= decode(envelope.content, StatusContent).execution_state == "idle"
        elif envelope.header.msg_type == "clear_output":
            clear = decode_lenient(envelope.content, ClearContent) or ClearContent()
            if cell.outputs.clear(clear.wait):
                self._sink.emit(CellOutputCleared(cell=cell.cell, wait=clear.wait))
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

    def _cell(self, msg_id: str) -> _Running | None:
        if self._running is not None and self._running.msg_id == msg_id:
            return self._running
        return self._earlier.get(msg_id)

    def _send_control(self, **fields: JSON) -> None:
        self._endpoint.send(Channel.CONTROL, msgspec.json.encode(fields))

    async def _send_file(self, path: Path) -> None:
        for chunk in _chunks(path):
            self._endpoint.send(Channel.CONTEXT, chunk)
            await self._endpoint.sent(Channel.CONTEXT)


def _cell_end(running: _Running) -> CellEnd:
    """Return what the guest said at the cell's end; nothing where it said nothing that can be used."""
    wrapped = (running.reply.user_expressions if running.reply else {}).get("rlm")
    bundle = decode_lenient(wrapped, CellEndBundle) if wrapped is not None else None
    raw = bundle.data.get(CELL_MIME) if bundle is not None else None
    if raw is None or weight(bytes(raw)) > MAX_WEIGHT:
        return CellEnd()
    return decode_lenient(raw, CellEnd) or CellEnd()


def _result(
    running: _Running, status: CellStatus | None, end: CellEnd, seconds: float, lost: tuple[str, ...] | None
) -> CellResult:
    outputs = running.outputs
    error = outputs.error
    if status is None:
        failed = error is not None if running.reply is None else running.reply.status != "ok"
        status = "kernel_died" if running.died else "error" if failed else "ok"
    ename, evalue = (error.ename, error.evalue) if error else running.reply.error() if running.reply else (None, None)
    if running.died is not None:
        ename = "OutOfMemory" if running.died.oom else "KernelDied"
        evalue = f"the kernel process ended with status {running.died.code}"
    final = Final(value=end.final.value, source=end.final.source) if end.final and status == "ok" else None
    return CellResult(
        cell=running.cell,
        status=status,
        seconds=seconds,
        outputs=outputs.finish(),
        execution_count=running.reply.execution_count if running.reply else None,
        ename=ename,
        evalue=evalue,
        cut=outputs.cut,
        final=final,
        lost=lost,
    )


def _finished(result: CellResult) -> CellFinished:
    return CellFinished(
        cell=result.cell,
        status=result.status,
        seconds=result.seconds,
        execution_count=result.execution_count,
        ename=result.ename,
        evalue=result.evalue,
        cut=result.cut,
        final=result.final.value if result.final else None,
        final_source=result.final.source if result.final else None,
    )


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(FRAME_LIMIT):
            yield chunk
