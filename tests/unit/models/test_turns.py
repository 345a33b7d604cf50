"""Whose turn it is, by a clock that the tests turn."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_kernel.models.turns import Bucket, Rates, Ticket, Turns


def _drain(turns: Turns, waiting: int, now: float = 0.0) -> list[tuple[float, Ticket]]:
    """Serve all that wait, each ending at once, and return when each went."""
    went = []
    for _ in range(waiting):
        ticket = turns.first()
        assert ticket is not None
        wait = turns.wait(ticket.tokens, now)
        assert wait < math.inf
        now += wait
        assert turns.wait(ticket.tokens, now) < 1e-6
        turns.serve(ticket)
        turns.end()
        went.append((now, ticket))
    assert turns.first() is None
    return went


def _filled(rates: Rates, lanes: list[int], tokens: float = 0.0) -> Turns:
    turns = Turns()
    turns.limit(rates)
    for lane, count in enumerate(lanes):
        for _ in range(count):
            turns.join(Ticket(lane, tokens))
    return turns


@given(per_minute=st.integers(1, 5000), calls=st.integers(1, 400))
def test_no_minute_has_more_requests_than_allowed(per_minute: int, calls: int) -> None:
    """However many wait, no span of a minute sees more than the rate, and the rate is used up nearly."""
    times = [now for now, _ in _drain(_filled(Rates(requests_per_minute=per_minute), [calls]), calls)]
    for number, begin in enumerate(times):
        within = bisect_left(times, begin + 60 - 1e-6) - number
        assert within <= per_minute
    assert times[-1] <= calls * 60 / (per_minute * 0.9) + 60 / per_minute


@given(lanes=st.lists(st.integers(1, 60), min_size=1, max_size=8), per_minute=st.integers(1, 1000))
def test_lanes_are_served_in_turn(lanes: list[int], per_minute: int) -> None:
    """While two lanes both wait, neither has been served more than once more than the other; each keeps its order."""
    turns = _filled(Rates(requests_per_minute=per_minute), lanes)
    served: Counter[int] = Counter()
    for _, ticket in _drain(turns, sum(lanes)):
        assert isinstance(ticket.lane, int)
        served[ticket.lane] += 1
        still = [served[lane] for lane, count in enumerate(lanes) if served[lane] < count]
        if still:
            assert max(still) - min(still) <= 1
    assert [served[lane] for lane in range(len(lanes))] == lanes


def test_a_small_session_is_not_starved_by_a_large_one() -> None:
    """Of a session with 3 calls beside one with 1,000, that came first, the last goes as the sixth."""
    turns = _filled(Rates(requests_per_minute=60), [1000, 3])
    lanes = [ticket.lane for _, ticket in _drain(turns, 1003)]
    assert lanes[:7] == [0, 1, 0, 1, 0, 1, 0]


@given(costs=st.lists(st.integers(1, 5000), min_size=1, max_size=80), per_minute=st.integers(1000, 100_000))
def test_tokens_keep_to_their_rate(costs: list[int], per_minute: int) -> None:
    """In any minute the tokens are at most the rate, and one call over it; what never fits at once still goes."""
    turns = Turns()
    turns.limit(Rates(tokens_per_minute=per_minute))
    for cost in costs:
        turns.join(Ticket("lane", cost))
    went = _drain(turns, len(costs))
    for number, (begin, _) in enumerate(went):
        within = [ticket.tokens for now, ticket in went[number:] if now < begin + 60 - 1e-6]
        assert sum(within) <= per_minute + max(within) + 1


def test_what_a_call_really_used_counts() -> None:
    """A call that used more tokens than was thought is paid for by those after it; one that used fewer gives back."""
    turns = Turns()
    turns.limit(Rates(tokens_per_minute=6000))
    turns.take(100)
    assert turns.wait(100, 0.0) == 0
    turns.end(tokens_over=3000)
    late = turns.wait(100, 0.0)
    assert late == pytest.approx(2900 / 95, rel=0.02)
    turns.take(0)
    turns.end(tokens_over=-3000)
    assert turns.wait(100, 0.0) == 0


def test_concurrency_waits_for_an_end() -> None:
    """With all room taken the wait has no end of its own; it is over when a call ends."""
    turns = _filled(Rates(concurrency=1), [2])
    first = turns.first()
    assert first is not None
    turns.serve(first)
    assert turns.wait(0, 0.0) == math.inf
    turns.end()
    assert turns.wait(0, 0.0) == 0


def test_what_was_never_sent_is_given_back() -> None:
    """A turn that a cancelled call had is no request of the minute."""
    turns = Turns()
    turns.limit(Rates(requests_per_minute=1, tokens_per_minute=100))
    turns.take(5)
    assert turns.wait(5, 0.0) > 0
    turns.unsent(5)
    assert turns.wait(5, 0.0) == 0


def test_a_rate_that_stays_goes_on() -> None:
    """To set the same rates again is no new minute."""
    turns = Turns()
    turns.limit(Rates(requests_per_minute=1))
    turns.take(0)
    turns.limit(Rates(requests_per_minute=1, concurrency=7))
    turns.end()
    assert turns.wait(0, 0.0) == pytest.approx(60)


@pytest.mark.parametrize("per_minute", [1, 19, 20, 21, 1000])
def test_a_bucket_is_full_at_first_and_after_a_while(per_minute: int) -> None:
    """There is something at once at the start, and no more after a day than at the start."""

    def at_once(now: float) -> int:
        count = 0
        while bucket.wait(1, now) == 0:
            bucket.take(1)
            count += 1
        return count

    bucket = Bucket(per_minute)
    assert at_once(0.0) == at_once(86_400.0) == max(1, per_minute // 20)


def test_the_strictest_rates_hold() -> None:
    """Of two sets of rates the lower numbers count, and one that is set before one that is not."""
    both = Rates(concurrency=5, requests_per_minute=10).and_also(Rates(concurrency=3, tokens_per_minute=7))
    assert both == Rates(concurrency=3, requests_per_minute=10, tokens_per_minute=7)
