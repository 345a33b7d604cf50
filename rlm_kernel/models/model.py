"""The port every model is behind: provider clients, wrappers around them, and an RLM itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from rlm_kernel.types import Message, Usage

OnRetry = Callable[[int, BaseException, float], None]
"""Called before a wait: the failed attempt's number, its error, the wait in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One request: the whole conversation, and at most how many tokens to answer with (None: the model's own limit).

    `on_retry` is told of every failed attempt that is followed by another.
    """

    messages: tuple[Message, ...]
    max_output_tokens: int | None = None
    on_retry: OnRetry | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A model's reply. `served_by` is the model that the provider says answered."""

    text: str
    finish_reason: str
    usage: Usage
    served_by: str
    attempts: int = 1
    reply_id: str | None = None


class Model(Protocol):
    """A client for one model."""

    @property
    def name(self) -> str:
        """The name it was asked for by, as `provider:model`."""

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer one request.

        Raise a `ModelError`: `RetryableModelError` where another attempt may succeed. Cancelling ends the request at
        the provider too; nothing stays open.
        """

    async def aclose(self) -> None:
        """Close connections and processes; safe to call twice."""
