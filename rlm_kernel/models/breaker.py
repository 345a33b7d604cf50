"""Failing fast: what can't be reached is not tried again by every call."""

from __future__ import annotations

from rlm_kernel.errors import ModelUnreachable

FAILURES = 5
SPAN = 3.0
FIRST_REST = 10.0
LONGEST_REST = 60.0


class Breaker:
    """Knows whether a provider's address is worth a try. Times are seconds of the caller's clock.

    After `FAILURES` connections in a row that failed, over at least `SPAN` seconds (a server that restarts is no
    reason), none is made for `FIRST_REST` seconds. Then one call is let through: if it too fails, the rest is twice as
    long, up to `LONGEST_REST`; any reply from the server ends it.
    """

    def __init__(self, place: str) -> None:
        """`place` is the address, for messages."""
        self._place = place
        self._failures = 0
        self._first = 0.0
        self._rest = 0.0
        self._until: float | None = None
        self._trying = False
        self._why = ""

    def refusal(self, now: float) -> ModelUnreachable | None:
        """Return why no call may be made now, and when one will."""
        if self._until is None or (now >= self._until and not self._trying):
            return None
        again = f"in {self._until - now:.0f} s" if now < self._until else "by one call just now"
        return ModelUnreachable(
            f"no connection to {self._place} in {self._failures} attempts, so none is made: "
            f"it is tried again {again}; the last failure: {self._why}",
            given_up=True,
        )

    def tries(self) -> bool:
        """Count a call that goes; tell whether it is the one that tries whether the rest is over."""
        if self._until is None:
            return False
        self._trying = True
        return True

    def ended(self, *, trial: bool) -> None:
        """Count a call that ended without telling anything, such as one that was cancelled."""
        if trial:
            self._trying = False

    def answered(self) -> None:
        """Count a call that the server answered, with an error maybe."""
        self._failures, self._until, self._trying, self._rest = 0, None, False, 0.0

    def failed(self, now: float, why: str, *, trial: bool) -> None:
        """Count a call whose connection failed."""
        self.ended(trial=trial)
        self._why = why
        if self._failures == 0:
            self._first = now
        self._failures += 1
        begins = self._until is None and self._failures >= FAILURES and now - self._first >= SPAN
        if begins or trial:
            self._rest = min(LONGEST_REST, self._rest * 2 or FIRST_REST)
            self._until = now + self._rest
