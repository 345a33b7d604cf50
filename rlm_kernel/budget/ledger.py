"""One node's books: what it may use, what calls in flight hold, and what was used."""

from __future__ import annotations

from collections.abc import Sequence

from rlm_kernel.budget.amounts import COST, INPUT, OUTPUT, TOTAL
from rlm_kernel.budget.call import LEAST_REPLY_TOKENS, Call

CLOSING_GROWTH = 3_000
"""Tokens that a conversation may grow by until its last request: a turn's shown output, and a short reply."""
CLOSING_REPLY = 4 * LEAST_REPLY_TOKENS
CLOSING_SHARE = 4
"""At most the fourth part of a limit is kept back."""


class Ledger:
    """Counts in the dimensions of `amounts`. `kept` is kept back of each limit for the request for the best answer."""

    __slots__ = ("_limited", "kept", "limits", "reserved", "settled")

    def __init__(self, limits: Sequence[int | None]) -> None:
        self.limits = tuple(limits)
        self._limited = tuple((index, limit) for index, limit in enumerate(limits) if limit is not None)
        self.settled = [0] * len(self.limits)
        self.reserved = [0] * len(self.limits)
        self.kept = [0] * len(self.limits)

    def most_output(self, call: Call, *, kept: bool, drained: bool) -> tuple[int, int]:
        """Return the maximum output with which `call` fits, below 0 for none, and the dimension that bounds it.

        `kept`: what is kept back is not for this call. `drained`: as if nothing were in flight.
        """
        best, bound = call.output_tokens, -1
        for index, limit in self._limited:
            if not INPUT <= index <= COST:
                continue
            room = limit - self.settled[index]
            if not drained:
                room -= self.reserved[index]
            if kept:
                room -= self.kept[index]
            fits = _output_in(room, index, call)
            if fits < best:
                best, bound = fits, index
        return best, bound

    def room(self, index: int) -> int | None:
        """Return what ordinary calls may still use of a dimension; None without a limit."""
        limit = self.limits[index]
        if limit is None:
            return None
        return max(0, limit - self.settled[index] - self.reserved[index] - self.kept[index])

    def rooms(self) -> list[int | None]:
        """Return `room` of each dimension."""
        return [self.room(index) for index in range(len(self.limits))]

    @staticmethod
    def add(counts: list[int], amounts: Sequence[int], sign: int) -> None:
        """Add `amounts` to `counts`, or take them away."""
        for index, amount in enumerate(amounts):
            counts[index] += sign * amount

    def keep_back(self, call: Call) -> None:
        """Keep back what the request for the best answer will take, `call` being the conversation's latest request."""
        last = Call(call.model, 0, call.input_tokens + CLOSING_GROWTH, CLOSING_REPLY, call.prices)
        for index, need in enumerate(last.units(min(CLOSING_REPLY, call.output_tokens))):
            limit = self.limits[index]
            self.kept[index] = 0 if limit is None else min(need, limit // CLOSING_SHARE)


def _output_in(room: int, index: int, call: Call) -> int:
    """Return how many output tokens `room` units of a dimension allow; below 0 if not even the input fits."""
    if index == OUTPUT:
        return room
    if index == TOTAL:
        return room - call.input_tokens
    if index == INPUT:
        return call.output_tokens if room >= call.input_tokens else -1
    room -= call.cost(0)
    per_output = call.cost(1) - call.cost(0)
    return -1 if room < 0 else room // per_output if per_output else call.output_tokens
