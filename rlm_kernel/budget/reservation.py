"""What a call in flight holds of a budget."""

from __future__ import annotations

from typing import Protocol

from rlm_kernel.budget.amounts import COST, UNITS_PER_DOLLAR
from rlm_kernel.budget.call import Call
from rlm_kernel.types import Usage


class Books(Protocol):
    """The budget that a reservation was made in."""

    def close(self, reservation: Reservation, used: tuple[int, ...] | None, usage: Usage | None) -> None:
        """Take back what `reservation` holds and count `used`."""


class Reservation:
    """Room for one call, in its budget and all above; `output_tokens` is the maximum output to send.

    It ends with the first of `settle`, `keep` and `release`; the others do nothing then.
    """

    __slots__ = ("_books", "call", "held", "output_tokens")

    def __init__(self, books: Books, call: Call, output_tokens: int) -> None:
        self._books: Books | None = books
        self.call = call
        self.output_tokens = output_tokens
        self.held = call.units(output_tokens)

    def settle(self, usage: Usage, reply_tokens: int = 0) -> None:
        """Count what the call used. A cost that is not known counts as estimated.

        Where the provider reported no tokens at all, the input counts as estimated and the output as `reply_tokens`.
        """
        if usage.input_tokens <= 0 and usage.output_tokens <= 0:
            self._end(self.call.units(min(reply_tokens, self.output_tokens)))
            return
        cost = self.held[COST] if usage.cost_usd is None else max(0, round(usage.cost_usd * UNITS_PER_DOLLAR))
        used = max(0, usage.input_tokens), max(0, usage.output_tokens)
        self._end((0, *used, sum(used), cost, 0), usage)

    def keep(self) -> None:
        """Count the whole estimate: the call may have been charged for, and nobody says what."""
        self._end(self.held)

    def release(self) -> None:
        """Count nothing: the call was not made, or was refused."""
        self._end(None)

    def _end(self, used: tuple[int, ...] | None, usage: Usage | None = None) -> None:
        books, self._books = self._books, None
        if books is not None:
            books.close(self, used, usage)
