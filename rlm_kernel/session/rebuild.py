"""Makes a lost kernel's variables anew: its cells run again, their sub-calls answered as they were, without a model."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rlm_kernel.bridge import Bridge, KnownFailure
from rlm_kernel.kernel import CellResult, KernelClient, Stop
from rlm_kernel.models.model import Completion, Model, ModelRequest
from rlm_kernel.session.journal import JournalCall, JournalCell, digest
from rlm_kernel.types import Usage

MARGIN = 5.0
LONGEST = 120.0
"""Seconds: a rebuild may take twice as long as its cells did and the margin, and never longer than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What a rebuild came to: the cells that ended as before, and why the next one did not."""

    cells: tuple[int, ...]
    failed: str | None = None


async def rebuild(cells: Sequence[JournalCell], kernel: KernelClient, bridge: Bridge, stop: Stop) -> Rebuilt:
    """Run `cells` again in a usable kernel, up to the first that does not end as it did; `stop` gives up.

    Raise what `KernelClient.run` raises. A result that says `lost` leaves no cell: its kernel went with all of it.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + min(MARGIN + 2 * sum(cell.seconds for cell in cells), LONGEST)
    done: list[int] = []
    for cell in cells:
        answers = _Answers(cell.calls, stop)
        with bridge.open_for(cell.cell, answers.models(bridge.names)):
            result = await kernel.run(
                cell.code, cell=cell.cell, turn=cell.turn, time_limit=max(0.0, deadline - loop.time()), stop=stop
            )
        await bridge.settled()
        if (why := _difference(cell, result, missing=answers.missing)) is not None:
            return Rebuilt(cells=() if result.lost is not None else tuple(done), failed=f"cell {cell.cell} {why}")
        done.append(cell.cell)
    return Rebuilt(cells=tuple(done))


def _difference(cell: JournalCell, result: CellResult, *, missing: bool) -> str | None:
    if missing:
        return "asked a sub-model what it had not asked before"
    if result.status == "timed_out":
        return "took too long"
    if result.status == "interrupted":
        return "was stopped"
    if result.status == "kernel_died":
        return "cost the kernel again"
    if (result.status, result.ename) != (cell.status, cell.ename):
        return "ended otherwise than before"
    return None


class _Answers:
    """The answers that a cell's sub-calls were given; a call without one is `missing` and stops the cell."""

    def __init__(self, calls: Iterable[JournalCall], stop: Stop) -> None:
        self.missing = False
        self._stop = stop
        self._calls: dict[tuple[str | None, bytes], deque[JournalCall]] = defaultdict(deque)
        for call in calls:
            self._calls[call.asked, call.prompt].append(call)

    def models(self, names: Mapping[str | None, str]) -> Mapping[str | None, Model]:
        """Return a model for each that a cell may ask, which answers from here."""
        return {asked: _RecordedModel(self, asked, name) for asked, name in names.items()}

    def take(self, asked: str | None, prompt: str) -> JournalCall:
        """Return the first call that fits and was not taken yet. Raise `KnownFailure` if there is none."""
        waiting = self._calls[asked, digest(prompt)]
        if not waiting:
            self.missing = True
            if not self._stop.done():
                self._stop.set_result("stopped")
            raise KnownFailure("failed", "this sub-call was not made before")
        return waiting.popleft()


class _RecordedModel:
    """Gives the answers of earlier calls; it reaches no provider and costs nothing."""

    def __init__(self, answers: _Answers, asked: str | None, name: str) -> None:
        self.name = name
        self._answers = answers
        self._asked = asked

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer as before. Raise `KnownFailure` where the call had failed."""
        call = self._answers.take(self._asked, request.messages[0].content)
        if call.text is None:
            raise KnownFailure(call.code, call.told)
        return Completion(text=call.text, finish_reason="stop", usage=Usage(), served_by="journal")

    async def aclose(self) -> None:
        """Close nothing."""
