"""Makes a lost kernel's variables anew: its cells run again, their sub-calls answered as they were, without a model."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rlm_kernel.bridge import Bridge, KnownFailure, Refusal
from rlm_kernel.kernel import CellResult, KernelClient, Stop
from rlm_kernel.models.model import Completion
from rlm_kernel.session.answers import Asking, CallKey, offered
from rlm_kernel.session.journal import JournalCall, JournalCell
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
        with bridge.open_for(cell.cell, offered(answers, bridge.offer)):
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
        self.asked: list[CallKey] = []  # what cells may call stays as it is
        self._calls: dict[CallKey, deque[JournalCall]] = defaultdict(deque)
        for call in calls:
            self._calls[call.key].append(call)

    def end(self, why: Stop) -> None:
        """End the cell."""
        if not self.over.done():
            self.over.set_result(why.result())

    def refused(self, kind: str, asked: str | None, text: str) -> Refusal | None:
        """Refuse nothing."""

    async def answer(self, asking: Asking) -> Completion:
        """Give the answer to the first call that fits and was not made yet."""
        waiting = self._calls[asking.key]
        if not waiting:
            self.missing = True
            if not self.over.done():
                self.over.set_result("stopped")
            raise KnownFailure("failed", "this sub-call was not made before")
        call = waiting.popleft()
        if call.text is None:
            raise KnownFailure(call.code, call.told)
        return Completion(text=call.text, finish_reason="stop", usage=Usage(), served_by="journal")
