"""A provider whose root models write the cells that they are led to, and that can keep some requests waiting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.support.provider_server import Reply

FOREVER = 600.0


class Led:
    """Answers as `ProviderServer` asks it to: by `cells` of the question that a conversation ends with, turn by turn.

    Any other prompt is answered with itself in capitals. `asked` counts the requests by `key`: a prompt, or a question
    and the number of the turn. Requests whose key `waits` wait for as long as a test may take.
    """

    def __init__(self, cells: Mapping[str, Sequence[str]]) -> None:
        self._cells = cells
        self.asked: Counter[str] = Counter()
        self.models: list[tuple[str, str]] = []
        self.waits: Callable[[str], bool] = lambda key: False

    def __call__(self, body: dict[str, Any]) -> Reply:
        """Return the reply to a request."""
        question, turn = self._place(body["messages"])
        key = question if turn is None else f"{question} {turn}"
        self.asked[key] += 1
        self.models.append((body["model"], key))
        text = question.upper() if turn is None else f"```repl\n{self._cells[question][turn - 1]}\n```"
        return Reply(text=text, delay=FOREVER if self.waits(key) else 0.0)

    def _place(self, messages: list[dict[str, Any]]) -> tuple[str, int | None]:
        if messages[0]["role"] != "system":
            return str(messages[0]["content"]), None
        turn = 1
        for message in reversed(messages):
            if message["role"] == "user":
                for question in self._cells:
                    if question in message["content"]:
                        return question, turn
            turn += message["role"] == "assistant"
        raise AssertionError(f"nobody is led by {messages}")
