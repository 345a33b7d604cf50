"""Whose turn it is: calls wait in lanes that are served in turn, as far as rates allow. No clock, no I/O."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

_AT_ONCE = 20
"""A rate's share of a minute, as a divisor, that may be used up at once: three seconds' worth."""
_NOTHING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What may be used at most, None being no limit: calls at once, requests and tokens in a minute."""

    concurrency: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    def and_also(self, other: Rates) -> Rates:
        """Return what keeps both."""
        return Rates(
            concurrency=_less(self.concurrency, other.concurrency),
            requests_per_minute=_less(self.requests_per_minute, other.requests_per_minute),
            tokens_per_minute=_less(self.tokens_per_minute, other.tokens_per_minute),
        )


UNLIMITED = Rates()


def _less(first: int | None, second: int | None) -> int | None:
    return min((value for value in (first, second) if value is not None), default=None)


class Ticket:
    """A call's place in its lane; `tokens` is how many it is thought to use."""

    __slots__ = ("lane", "tokens")

    def __init__(self, lane: Hashable, tokens: float) -> None:
        self.lane = lane
        self.tokens = tokens


class Bucket:
    """An even rate with little slack: whole costs of 1 never pass `per_minute` in any minute.

    What costs more than fits waits until the bucket is full and leaves a debt, which those after it wait for.
    """

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._size = max(1, per_minute // _AT_ONCE)
        self._per_second = (per_minute - self._size + 1) / 60
        self._level = float(self._size)
        self._seen: float | None = None

    def wait(self, cost: float, now: float) -> float:
        """Return in how many seconds `cost` can be had."""
        if self._seen is not None and now > self._seen:
            self._level = min(self._size, self._level + (now - self._seen) * self._per_second)
        self._seen = now if self._seen is None else max(now, self._seen)
        short = min(cost, self._size) - self._level
        return short / self._per_second if short > _NOTHING else 0.0

    def take(self, cost: float) -> None:
        """Use up `cost`, or give back what is negative."""
        self._level = min(self._size, self._level - cost)


class Turns:
    """Lanes of tickets, and what the rates leave for them.

    Lanes are served in turn, a ticket each, so one with a thousand waiting holds up another by one. A ticket that the
    rates do not allow yet is waited for, so a large one is never passed over for small ones.
    """

    def __init__(self) -> None:
        self._lanes: OrderedDict[Hashable, OrderedDict[Ticket, None]] = OrderedDict()
        self._concurrency: int | None = None
        self._requests: Bucket | None = None
        self._tokens: Bucket | None = None
        self._running = 0

    @property
    def counts_tokens(self) -> bool:
        """Whether tokens are limited."""
        return self._tokens is not None

    def limit(self, rates: Rates) -> None:
        """Keep to `rates` from now on; a rate that stays the same goes on as it was."""
        self._concurrency = rates.concurrency
        self._requests = _bucket(self._requests, rates.requests_per_minute)
        self._tokens = _bucket(self._tokens, rates.tokens_per_minute)

    def join(self, ticket: Ticket) -> None:
        """Put `ticket` at the end of its lane; a new lane is the last in turn."""
        self._lanes.setdefault(ticket.lane, OrderedDict())[ticket] = None

    def first(self) -> Ticket | None:
        """Return the ticket whose turn it is."""
        for tickets in self._lanes.values():
            return next(iter(tickets))
        return None

    def withdraw(self, ticket: Ticket) -> None:
        """Take a waiting `ticket` out; its lane's turn passes on if it was the first."""
        tickets = self._lanes[ticket.lane]
        del tickets[ticket]
        if not tickets:
            del self._lanes[ticket.lane]

    def wait(self, tokens: float, now: float) -> float:
        """Return in how many seconds a call of so many tokens may go; infinity if another one has to end first."""
        if self._concurrency is not None and self._running >= self._concurrency:
            return math.inf
        wait = 0.0 if self._requests is None else self._requests.wait(1, now)
        return wait if self._tokens is None else max(wait, self._tokens.wait(tokens, now))

    def take(self, tokens: float) -> None:
        """Count a call that goes."""
        self._running += 1
        if self._requests is not None:
            self._requests.take(1)
        self._correct(tokens)

    def serve(self, ticket: Ticket) -> None:
        """Take the first ticket out, count it, and let the next lane have its turn."""
        self.withdraw(ticket)
        if ticket.lane in self._lanes:
            self._lanes.move_to_end(ticket.lane)
        self.take(ticket.tokens)

    def end(self, tokens_over: float = 0.0) -> None:
        """Count a call that ended and used so many tokens more, or fewer, than was thought."""
        self._running -= 1
        self._correct(tokens_over)

    def unsent(self, tokens: float) -> None:
        """Take back a call that was counted and never sent."""
        if self._requests is not None:
            self._requests.take(-1)
        self.end(-tokens)

    def _correct(self, tokens: float) -> None:
        if self._tokens is not None:
            self._tokens.take(tokens)


def _bucket(now: Bucket | None, per_minute: int | None) -> Bucket | None:
    if now is not None and now.per_minute == per_minute:
        return now
    return None if per_minute is None else Bucket(per_minute)
