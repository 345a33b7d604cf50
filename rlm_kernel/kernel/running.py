"""A cell from its request to its result."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from rlm_kernel.errors import SandboxLost
from rlm_kernel.events import CellFinished, CellStatus, InterruptReason
from rlm_kernel.kernel.messages import CELL_MIME, CellEnd, CellEndBundle, KernelDied, ReplyContent, decode_lenient
from rlm_kernel.kernel.outputs import MAX_WEIGHT, Outputs, weight
from rlm_kernel.kernel.result import CellResult, Final

SILENCE = 3.0
"""Seconds without output after which a cell ends on one of its two signs, the reply and the idle status.

A busy machine may hold up either for a second or so; what it holds up longer would count as lost.
"""


@dataclass(slots=True)
class RunningCell:
    """What is known of a cell; `ended` is done once it is over.

    `died`, `deaf` and `sandbox_lost` say what became of the kernel, `interrupted` why the cell was to end.
    """

    cell: int
    msg_id: str
    started: float = field(default_factory=time.monotonic)
    outputs: Outputs = field(default_factory=Outputs)
    reply: ReplyContent | None = None
    idle: bool = False
    died: KernelDied | None = None
    deaf: bool = False
    sandbox_lost: SandboxLost | None = None
    interrupted: InterruptReason | None = None
    told_cut: int = 0
    """Bytes of output that were left out, as far as that was told."""
    chunked: int = 0
    """How often the guest told that it cut a text into chunks."""
    last_call: asyncio.TimerHandle | None = None
    ended: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return time.monotonic() - self.started

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

    def settle(self) -> bool:
        """End the cell if it has given either of its signs, and say whether it has."""
        if self.reply is not None or self.idle:
            self.end()
        return self.ended.done()

    @property
    def kernel_lost(self) -> bool:
        """Whether its kernel can't run another cell."""
        return self.deaf or self.died is not None or self.sandbox_lost is not None

    def said(self) -> CellEnd:
        """Return what the guest said at the cell's end; nothing where it said nothing that can be used."""
        wrapped = (self.reply.user_expressions if self.reply else {}).get("rlm")
        bundle = decode_lenient(wrapped, CellEndBundle) if wrapped is not None else None
        raw = bundle.data.get(CELL_MIME) if bundle is not None else None
        if raw is None or weight(bytes(raw)) > MAX_WEIGHT:
            return CellEnd()
        return decode_lenient(raw, CellEnd) or CellEnd()

    def why_lost(self) -> str:
        """Return why the kernel can't be used any more."""
        if self.sandbox_lost is not None:
            return str(self.sandbox_lost)
        if self.died is None:
            return "the kernel does not stop or reply any more"
        if self.died.oom:
            return "the cell used up the sandbox's memory"
        return f"the kernel process ended with status {self.died.code}"

    def result(self, lost: tuple[str, ...] | None) -> CellResult:
        """Return the outcome, `lost` being the names that went with the kernel; the outputs are given away."""
        said, status = self.said(), self._status()
        self.told_cut = self.outputs.cut
        ename, evalue = self._error()
        return CellResult(
            cell=self.cell,
            status=status,
            seconds=self.seconds,
            outputs=self.outputs.finish(),
            execution_count=self.reply.execution_count if self.reply else None,
            ename=ename,
            evalue=evalue,
            cut=self.outputs.cut,
            final=Final(value=said.final.value, source=said.final.source) if said.final and status == "ok" else None,
            lost=lost,
        )

    def late_cut(self) -> int:
        """Return how many bytes of its output were left out since this was last told."""
        late, self.told_cut = self.outputs.cut - self.told_cut, self.outputs.cut
        return late

    def _status(self) -> CellStatus:
        if self.interrupted is not None:
            return "timed_out" if self.interrupted == "timed_out" else "interrupted"
        if self.died is not None or self.sandbox_lost is not None:
            return "kernel_died"
        failed = self.outputs.error is not None if self.reply is None else self.reply.status != "ok"
        return "error" if failed else "ok"

    def _error(self) -> tuple[str | None, str | None]:
        if self.sandbox_lost is not None:
            return "SandboxLost", str(self.sandbox_lost)
        if self.died is not None:
            return "OutOfMemory" if self.died.oom else "KernelDied", (
                f"the kernel process ended with status {self.died.code}"
            )
        error = self.outputs.error
        if error is not None:
            return error.ename, error.evalue
        return self.reply.error() if self.reply is not None else (None, None)


def finished(result: CellResult) -> CellFinished:
    """Return the event of a cell's end."""
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
