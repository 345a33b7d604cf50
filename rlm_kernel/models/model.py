"""The port every model is behind: provider clients, wrappers around them, and an RLM itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import msgspec

from rlm_kernel.errors import ImagesNotTaken
from rlm_kernel.types import JSON, Message, Origin, Tool, ToolCall, Usage

OnRetry = Callable[[int, BaseException, float], None]
"""Called before a wait: the failed attempt's number, its error, the wait in seconds."""

Queued = Callable[[], AbstractContextManager[None]]
"""Entered while a call waits for its turn: time that is not the provider's."""


class TextDelta(NamedTuple):
    """A piece of a reply as it comes: of its text, its reasoning, or the arguments of a tool call."""

    kind: Literal["text", "reasoning", "arguments"]
    text: str


OnText = Callable[[TextDelta], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One request: the whole conversation, and at most how many tokens to answer with (None: the model's own limit).

    `extra` are further fields of the provider's own. `on_retry` is told of every failed attempt that is followed by
    another. With `on_text` the reply is streamed and its pieces are passed on; those before an `on_retry` are void.
    `queued` is for wrappers.
    `context`, text or encoded JSON, is for a model that is a session of its own: what the question is about; `call`
    names the sub-call that asks, for what that session records.
    """

    messages: tuple[Message, ...]
    max_output_tokens: int | None = None
    tools: tuple[Tool, ...] = ()
    extra: Mapping[str, JSON] = field(default_factory=dict)
    on_retry: OnRetry | None = field(default=None, compare=False)
    on_text: OnText | None = field(default=None, compare=False)
    queued: Queued = field(default=nullcontext, compare=False)
    context: str | msgspec.Raw | None = None
    call: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A model's reply: text, or calls of tools, or both. `served_by` is the model that the provider says answered.

    `finish_reason` is in OpenAI's words. `reasoning` is what the provider wants back as part of the reply's message,
    `note` what who asked should know of the reply. `cached` says whose answer it is where nothing was asked for it:
    then there are no attempts, and no usage; `counted` is what the provider counted when it was asked, if known.
    """

    text: str
    finish_reason: str
    usage: Usage
    served_by: str
    attempts: int = 1
    reply_id: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: JSON = None
    note: str = ""
    cached: Origin | None = None
    counted: Usage | None = None


def refuse_images(name: str, request: ModelRequest) -> None:
    """Raise `ImagesNotTaken` for a request with images, to a model that would not see them."""
    if any(message.images for message in request.messages):
        raise ImagesNotTaken(f"{name} takes no images: choose a model that sees with --sub-model")


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


class Wrapper:
    """What every wrapper around a model has of that one: its name, and its end."""

    def __init__(self, model: Model) -> None:
        self._model = model

    @property
    def name(self) -> str:
        """The wrapped model's name."""
        return self._model.name

    async def aclose(self) -> None:
        """Close the wrapped model."""
        await self._model.aclose()
