"""One node of the tree: its books, those above it, and whether they allow a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rlm_kernel.budget.amounts import NAMES, OUTPUT, described, in_unit
from rlm_kernel.budget.call import Call
from rlm_kernel.budget.ledger import Ledger
from rlm_kernel.budget.limits import Limits
from rlm_kernel.budget.reservation import Reservation
from rlm_kernel.budget.tree import Tree
from rlm_kernel.budget.warner import TIME
from rlm_kernel.errors import BudgetExceeded
from rlm_kernel.events import BudgetSpent, EventSink
from rlm_kernel.types import Usage

NEARLY = 10
SMALL = 500
"""When a sub-call does not fit, a limit is spent if less than its tenth part is left, or if a call with this many input
tokens would not fit either; else it is that call that is too large."""
MAX_REFUSED = 100
"""Sub-calls refused in a row after which a limit counts as spent, whatever is left of it."""


class Account:
    """A node's books, chained to its parent's: what is reserved or used here is so in all above."""

    def __init__(self, limits: Limits, tree: Tree, parent: Account | None, sink: EventSink | None) -> None:
        self.limits = limits
        self.tree = tree
        self.ledger = Ledger(limits.units)
        self.line: tuple[Account, ...] = (self, *(parent.line if parent else ()))
        self.error: BudgetExceeded | None = None
        self._sink = sink

    @property
    def spent_by(self) -> BudgetExceeded | None:
        """What spent this account or one above it."""
        return next((node.error for node in self.line if node.error is not None), None)

    def check(self) -> None:
        """Raise `BudgetExceeded` if the time is over or a limit was hit, here or above."""
        self.tree.look_at_clock()
        if (error := self.spent_by) is not None:
            raise BudgetExceeded(error.reason, limit=error.limit, way_out=way_out(error.limit))

    def spend(self, limit: str, words: str, used: float, allowed: float) -> BudgetExceeded:
        """Allow no more calls here and below, except for best answers; record it, and return why."""
        whole = len(self.line) == 1
        reason = reached(words) if whole else f"The share of {words} is used up."
        error = self.spend_for(BudgetSpent(limit=limit, used=used, allowed=allowed, message=reason))
        return BudgetExceeded(error.reason, limit=error.limit, way_out=way_out(error.limit))

    def spend_for(self, spent: BudgetSpent) -> BudgetExceeded:
        """Be spent, unless it is, with this event, and return what it is spent by."""
        if self.error is None:
            self.error = BudgetExceeded(spent.message, limit=spent.limit, way_out=way_out(spent.limit))
            if self._sink is not None:
                self._sink.emit(spent)
            for look in tuple(self.tree.watches):
                look()
            self.tree.queue.advance()
        return self.error

    def spend_dimension(self, index: int) -> BudgetExceeded:
        """`spend` a dimension that has a limit."""
        limit = self.ledger.limits[index] or 0
        used = self.ledger.settled[index]
        return self.spend(NAMES[index], described(index, limit), in_unit(index, used), in_unit(index, limit))

    def rooms(self) -> list[int | None]:
        """Return what ordinary calls may still use of each dimension, here and in all above."""
        each = zip(*(node.ledger.rooms() for node in self.line), strict=True)
        return [min((room for room in rooms if room is not None), default=None) for rooms in each]

    def attempt(self, call: Call) -> Reservation | list[Account]:
        """Reserve, or return the nodes where only calls in flight leave too little room. Raise `BudgetExceeded`."""
        self._check_for(call)
        self._keep_back(call)
        output, _, _ = self.most_output(call)
        if output < call.output_tokens:
            drained, node, index = self.most_output(call, drained=True)
            if drained < call.least_output:
                raise node.refusal(call, index)
            busy = [each for each in self.line if each._is_busy_for(call, mine=each is self)]
            if busy:
                return busy
        self.tree.refused = 0
        reservation = Reservation(self, call, output)
        for each in self.line:
            each.ledger.add(each.ledger.reserved, reservation.held, 1)
        return reservation

    def most_output(self, call: Call, *, drained: bool = False) -> tuple[int, Account, int]:
        """Return the maximum output that `call` may have now, or with nothing in flight; and what bounds it."""
        best = (call.output_tokens, self, OUTPUT)
        for node in self.line:
            output, index = node.ledger.most_output(call, kept=not (call.closing and node is self), drained=drained)
            if output < best[0]:
                best = (output, node, index)
        return best

    def refusal(self, call: Call, index: int) -> BudgetExceeded:
        """Return why `call` can't be made within a dimension of this node, which may be spent by that."""
        self.tree.refused += 1
        limit = self.ledger.limits[index] or 0
        left = max(0, limit - self.ledger.settled[index] - self.ledger.kept[index])
        small = replace(call, input_tokens=min(call.input_tokens, SMALL))
        little = left < max(limit / NEARLY, small.units(call.least_output)[index])
        if not call.is_sub or little or self.tree.refused >= MAX_REFUSED:
            return self.spend_dimension(index)
        needed = call.units(call.least_output)[index]
        return BudgetExceeded(
            f"The call is too large for what is left: it may take {described(index, needed)}, "
            f"and {described(index, left)} of {described(index, limit)} are left.",
            limit=NAMES[index],
            way_out=way_out(NAMES[index]),
            too_large=True,
        )

    def close(self, reservation: Reservation, used: Sequence[int] | None, usage: Usage | None) -> None:
        """Take back what `reservation` holds and count `used`, here and above."""
        for node in self.line:
            node.ledger.add(node.ledger.reserved, reservation.held, -1)
            if used is not None:
                node.ledger.add(node.ledger.settled, used, 1)
        call = reservation.call
        if usage is not None:
            self.tree.ratio(call.model).learn(call.guess, usage.input_tokens)
            self._keep_back(replace(call, input_tokens=usage.input_tokens + usage.output_tokens))
        self.tree.queue.advance()
        self.tree.warn()

    def _keep_back(self, call: Call) -> None:
        if self.tree.keeps_back and not call.is_sub:
            self.ledger.keep_back(call)

    def _check_for(self, call: Call) -> None:
        if not call.closing or any(node.error is not None and node.error.limit != TIME for node in self.line[1:]):
            self.check()

    def _is_busy_for(self, call: Call, *, mine: bool) -> bool:
        """Tell whether calls in flight keep this node from allowing `call` in full."""
        kept = not (call.closing and mine)
        now, index = self.ledger.most_output(call, kept=kept, drained=False)
        return now < call.output_tokens and self.ledger.reserved[index] > 0


def reached(words: str) -> str:
    """Return why a budget is spent whose limit is put in `words`."""
    return f"The limit of {words} is reached."


def way_out(limit: str) -> str:
    """Return the hint that goes with a limit."""
    return f"Allow more with --{limit.replace('_', '-')}."
