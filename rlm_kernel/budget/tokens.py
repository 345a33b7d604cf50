"""How many tokens a text takes, guessed without the model's tokenizer, and corrected by what its replies said."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

from rlm_kernel.types import Message

PER_MESSAGE = 8
PER_CALL = 16
PER_IMAGE = 2_500
_CHARACTERS_PER_TOKEN = 3
_PER_MORE_BYTE = 0.6
_KEPT = 32
_MARGIN, _LEAST, _MOST = 1.1, 0.5, 8.0


def guess_tokens(texts: Iterable[str]) -> int:
    """Return how many input tokens a call with these messages takes, rather too many than too few.

    A third of a token for each character, which is more than prose (a quarter) and code take, and 0.6 more for each
    byte that it has in UTF-8 above one: 0.9 for a Cyrillic letter, 1.5 for a Chinese character, 2.1 for an emoji.
    Dense text, such as digits or base64, may take more; `TokenRatio` learns that.
    """
    return PER_CALL + sum(map(_guess, texts))


def guess_message(message: Message) -> int:
    """Return how many tokens a message takes in a request, its images and what goes back with it included."""
    texts = [message.content, *(call.name + call.arguments for call in message.tool_calls)]
    if message.reasoning is not None:
        texts.append(msgspec.json.encode(message.reasoning).decode())
    return sum(map(_guess, texts)) + len(message.images) * PER_IMAGE


def _guess(text: str) -> int:
    more = 0 if text.isascii() else len(text.encode("utf-8", "surrogatepass")) - len(text)
    return PER_MESSAGE + len(text) // _CHARACTERS_PER_TOKEN + int(more * _PER_MORE_BYTE)


class TokenRatio:
    """How far one model's guesses are off: the worst of its last replies and a tenth more, never below a half."""

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=_KEPT)
        self._factor = 1.0

    def corrected(self, guess: int) -> int:
        """Return the guess, corrected."""
        return int(guess * self._factor) + 1

    def learn(self, guess: int, actual: int) -> None:
        """Take note of what a call took whose guess was `guess`; a provider that counts nothing teaches nothing."""
        if actual > 0:
            self._seen.append(actual / max(1, guess))
            self._factor = min(_MOST, max(_LEAST, _MARGIN * max(self._seen)))
