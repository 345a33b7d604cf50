"""What happened between a session's questions, turns and cells, told where it happened."""

from __future__ import annotations

from collections.abc import Iterator

from rlm_kernel import events as ev
from rlm_kernel.export.parts import Block, Close, Open, Part, Words
from rlm_kernel.export.told import told
from rlm_kernel.recording import Recording
from rlm_kernel.recording.index import Node


class Asides:
    """The records of a session that belong to neither, in order. `retries` counts those of sub-calls, by call."""

    def __init__(self, recording: Recording, node: Node) -> None:
        self._recording = recording
        self._left = iter(sorted([*node.others, *node.sandboxes[1:]]))
        self._next = next(self._left, None)
        self.retries: dict[str, int] = {}

    def before(self, seq: int) -> Iterator[Part]:
        """Tell of what happened before the record `seq` and was not told yet."""
        while self._next is not None and self._next < seq:
            event = self._recording.event(self._next)
            self._next = next(self._left, None)
            if isinstance(event, ev.ModelRetried) and not event.call.startswith("m"):
                self.retries[event.call] = self.retries.get(event.call, 0) + 1
            elif sentence := told(event):
                yield Words(sentence, alarm=isinstance(event, ev.KernelLost | ev.BudgetSpent))
                if isinstance(event, ev.HistoryCompacted):
                    yield Open("What stands for them")
                    yield Block("", event.summary)
                    yield Close()
