"""Hand-written fakes of the ports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from rlm_kernel.errors import ScriptExhausted
from rlm_kernel.events import AnyEvent, CellStatus
from rlm_kernel.kernel.result import CellResult, Final
from rlm_kernel.models.model import Completion, ModelRequest
from rlm_kernel.types import JSON, Usage

Turn = str | Completion | BaseException
Runner = Callable[[str], CellResult]


def completion(text: str, finish_reason: str = "stop") -> Completion:
    """Return a reply as a provider would give it."""
    return Completion(
        text=text, finish_reason=finish_reason, usage=Usage(calls=1, output_tokens=len(text)), served_by="fake-1"
    )


class FakeModel:
    """Gives the turns it was made with, in order, and keeps the requests; an exception among them is raised."""

    name = "fake:model"

    def __init__(self, turns: Iterable[Turn]) -> None:
        self.requests: list[ModelRequest] = []
        self._turns = iter(turns)

    async def complete(self, request: ModelRequest) -> Completion:
        """Give the next turn."""
        self.requests.append(request)
        turn = next(self._turns, None)
        if turn is None:
            raise ScriptExhausted("the fake has no more turns")
        if isinstance(turn, BaseException):
            raise turn
        return completion(turn) if isinstance(turn, str) else turn

    async def aclose(self) -> None:
        """Close nothing."""


class SilentModel:
    """Never replies; tells when it was asked and when its call was cancelled."""

    name = "fake:silent"

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.cancelled = False

    async def complete(self, request: ModelRequest) -> Completion:
        """Wait until cancelled."""
        self.asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        raise AssertionError(f"woke up on {request}")

    async def aclose(self) -> None:
        """Close nothing."""


def cell_ok(text: str = "", final: JSON = None) -> CellResult:
    """Return a cell's success that printed `text`, with a final answer unless that is None."""
    return cell(
        "ok", stream(text) if text else None, final=None if final is None else Final(value=final, source="FINAL")
    )


def cell_error(message: str = "boom") -> CellResult:
    """Return a cell that raised a ValueError."""
    output: dict[str, JSON] = {
        "output_type": "error",
        "ename": "ValueError",
        "evalue": message,
        "traceback": ["ValueError  Traceback (most recent call last)", "Cell In[1], line 1", f"ValueError: {message}"],
    }
    return cell("error", output, ename="ValueError", evalue=message)


def cell(status: CellStatus, *outputs: dict[str, JSON] | None, **fields: object) -> CellResult:
    """Return a cell's outcome."""
    kept = tuple(output for output in outputs if output is not None)
    return CellResult(cell=1, status=status, seconds=0.5, outputs=kept, **fields)  # type: ignore[arg-type]


def stream(text: str, name: str = "stdout") -> dict[str, JSON]:
    """Return a stream output."""
    return {"output_type": "stream", "name": name, "text": text}


class FakeCells:
    """Runs no code: answers each cell by the given function and keeps what it was asked to run."""

    def __init__(self, run: Runner | None = None) -> None:
        self.ran: list[tuple[str, int]] = []
        self._run = run or (lambda code: cell_ok())

    async def run_cell(self, code: str, *, turn: int) -> CellResult:
        """Answer one cell."""
        self.ran.append((code, turn))
        return self._run(code)


class ListSink:
    """Keeps events in a list."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []

    def emit(self, event: AnyEvent, node: str = "") -> None:
        """Keep `event`."""
        self.events.append(event)
