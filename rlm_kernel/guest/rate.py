"""A limit per second that lets a burst pass."""

import time
from collections.abc import Callable


class Rate:
    """So much at once, and after that so much per second."""

    def __init__(self, burst: int, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._per_second, self._clock = burst, per_second, clock
        self._left: float = burst
        self._seen = clock()

    def left(self) -> int:
        """Return how much may pass now."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._seen) * self._per_second)
        self._seen = now
        return int(self._left)

    def take(self, amount: int) -> bool:
        """Let `amount` pass, if so much may; say whether it did."""
        if self.left() < amount:
            return False
        self._left -= amount
        return True
