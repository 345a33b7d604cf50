"""A provider that fails at first, in every way a server can."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.support.provider_server import Reply

EVERY = 5
"""One prompt in so many fails at first."""

FAULTS = (
    Reply(status=429),
    Reply(status=429, headers={"retry-after": "0.1"}),
    Reply(status=500),
    Reply(status=529),
    Reply(fate="reset"),
    Reply(fate="stalled"),
    Reply(fate="stalled_midway"),
    Reply(fate="truncated", text="x" * 1000),
    Reply(body=b'{"choices": [{"message": {"content": "half an ans'),
    Reply(body=b"<html>not JSON"),
    Reply(body=b"{}"),
    Reply(text=""),
    Reply(text=None),
)


class Faulty:
    """Answers the prompt `q7` with `a7`; every fifth prompt fails once before, in turn in each of `FAULTS`."""

    def __init__(self, delay: float = 0.0) -> None:
        self.seen: Counter[int] = Counter()
        self._delay = delay

    def __call__(self, body: dict[str, Any]) -> Reply:
        """Return what to do with a request."""
        number = int(body["messages"][-1]["content"][1:])
        self.seen[number] += 1
        if number % EVERY == 0 and self.seen[number] == 1:
            return FAULTS[number // EVERY % len(FAULTS)]
        return Reply(text=f"a{number}", delay=self._delay)
