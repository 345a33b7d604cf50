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
LONGEST = 60.0
"""Seconds: cells may take twice as long as they did, and the margin, and never longer than this together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """How many cells ended as before, why the next one did not, and whether that one cost the kernel."""

    done: int
    failed: str | None = None
    lost: bool = False


async def run_again(cells: Sequence[JournalCell], kernel: KernelClient, bridge: Bridge, stop: Stop) -> Rerun:
    """Run `cells` in a usable kernel, up to the first that does not end as it did; `stop` gives up.

    Raise what `KernelClient.run` raises.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + min(MARGIN + 2 * sum(cell.seconds for cell in cells), LONGEST)
    for number, cell in enumerate(cells):
        answers = _Answers(cell.calls)
        stop.add_done_callback(answers.end)
        with bridge.open_for(cell.cell, answers.models(bridge.names)):
            result = await kernel.run(
                cell.code,
                cell=cell.cell,
                turn=cell.turn,
                time_limit=max(0.0, deadline - loop.time()),
                stop=answers.over,
            )
        stop.remove_done_callback(answers.end)
        await bridge.settled()
        if (why := _difference(cell, result, missing=answers.missing)) is not None:
            return Rerun(done=number, failed=f"cell {cell.cell} {why}", lost=result.lost is not None)
    return Rerun(done=len(cells))


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
    """The answers that a cell's sub-calls were given; a call without one is `missing`, and the cell is `over`."""

    def __init__(self, calls: Iterable[JournalCall]) -> None:
        self.missing = False
        self.over: Stop = asyncio.get_running_loop().create_future()
        self._calls: dict[tuple[str | None, bytes], deque[JournalCall]] = defaultdict(deque)
        for call in calls:
            self._calls[call.asked, call.prompt].append(call)

    def end(self, why: Stop) -> None:
        """End the cell."""
        if not self.over.done():
            self.over.set_result(why.result())

    def models(self, names: Mapping[str | None, str]) -> Mapping[str | None, Model]:
        """Return a model for each that a cell may ask, which answers from here."""
        return {asked: _RecordedModel(self, asked, name) for asked, name in names.items()}

    def take(self, asked: str | None, prompt: str) -> JournalCall:
        """Return the first call that fits and was not taken yet. Raise `KnownFailure` if there is none."""
        waiting = self._calls[asked, digest(prompt)]
        if not waiting:
            self.missing = True
            if not self.over.done():
                self.over.set_result("stopped")
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
