"""Makes a lost kernel's variables anew: its cells run again, their sub-calls answered as they were, without a model."""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict, deque
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

from rlm_kernel.bridge import Bridge, KnownFailure, Models, Offer, context_digest
from rlm_kernel.kernel import CellResult, KernelClient, Stop
from rlm_kernel.models.model import Completion, ModelRequest
from rlm_kernel.session.journal import CallKey, JournalCall, JournalCell, digest
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
        with bridge.open_for(cell.cell, answers.offer(bridge.offer)):
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
        self._calls: dict[CallKey, deque[JournalCall]] = defaultdict(deque)
        for call in calls:
            self._calls[call.key].append(call)

    def end(self, why: Stop) -> None:
        """End the cell."""
        if not self.over.done():
            self.over.set_result(why.result())

    def offer(self, usual: Offer) -> Offer:
        """Return a model for each that a cell may ask, and tools, which answer from here."""
        tools = _RecordedTools(self, usual.tools.names)
        return Offer(
            self._models("llm", usual.models), self._models("rlm", usual.children), tools=tools, images=usual.images
        )

    def _models(self, kind: str, models: Models) -> Models:
        return {asked: _RecordedModel(self, kind, asked, model.name) for asked, model in models.items()}

    def take(self, key: CallKey) -> JournalCall:
        """Return the first call that fits and was not taken yet. Raise `KnownFailure` if there is none."""
        waiting = self._calls[key]
        if not waiting:
            self.missing = True
            if not self.over.done():
                self.over.set_result("stopped")
            raise KnownFailure("failed", "this sub-call was not made before")
        return waiting.popleft()


class _RecordedModel:
    """Gives the answers of earlier calls; it reaches no provider and costs nothing."""

    def __init__(self, answers: _Answers, kind: str, asked: str | None, name: str) -> None:
        self.name = name
        self._answers = answers
        self._kind = kind
        self._asked = asked

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer as before. Raise `KnownFailure` where the call had failed."""
        (message,) = request.messages
        images = tuple(hashlib.sha256(image.data).hexdigest() for image in message.images)
        context = context_digest(request.context)
        call = self._answers.take(CallKey(self._kind, self._asked, digest(message.content), context, images))
        if call.text is None:
            raise KnownFailure(call.code, call.told)
        return Completion(text=call.text, finish_reason="stop", usage=Usage(), served_by="journal")

    async def aclose(self) -> None:
        """Close nothing."""


class _RecordedTools:
    """Gives the results of earlier calls; nothing runs on the host."""

    def __init__(self, answers: _Answers, names: Container[str]) -> None:
        self._answers = answers
        self._names = names

    @property
    def names(self) -> Container[str]:
        """What there is."""
        return self._names

    def refusal(self, name: str) -> str | None:
        """Refuse what is no tool; a call that was refused before is one that was not made."""
        return None if name in self._names else f"there is no tool {name[:100]!r}"

    async def call(self, name: str, arguments: str) -> str:
        """Give the result, or fail, as before."""
        call = self._answers.take(CallKey("tool", name, digest(arguments)))
        if call.text is None:
            raise KnownFailure(call.code, call.told)
        return call.text
