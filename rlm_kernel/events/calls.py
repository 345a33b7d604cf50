"""Events of turns and of calls of models: the root model's, and the sub-calls of cells."""

from __future__ import annotations

from typing import Literal

import msgspec

from rlm_kernel.events.base import Event
from rlm_kernel.types import JSON, Message, Origin, Tool, ToolCall, Usage


class TurnStarted(Event, frozen=True, kw_only=True):
    """The controller begins a turn, counted from 1."""

    turn: int


class ModelRequested(Event, frozen=True, kw_only=True):
    """A request to the root model: the first `history` messages of the request before it, then `messages`.

    The conversation is append-only, except where it starts anew. `tools` are those offered, `extra` further fields of
    the provider's own.
    """

    call: str
    model: str
    history: int
    messages: list[Message]
    max_output_tokens: int | None = None
    tools: list[Tool] = msgspec.field(default_factory=list)
    extra: dict[str, JSON] = msgspec.field(default_factory=dict)


class ModelReplied(Event, frozen=True, kw_only=True):
    """The root model's reply. `seconds` counts from the request, waits and retries included.

    `reasoning` is what the provider wants back with the reply, in its own shape. `cached` says which recording it is
    from if the provider was not asked; then `usage` is nothing, `attempts` 0, and `counted` what the provider counted
    when it was asked, if that is known.
    """

    call: str
    text: str
    finish_reason: str
    usage: Usage
    seconds: float
    attempts: int
    served_by: str
    reply_id: str | None = None
    tool_calls: list[ToolCall] = msgspec.field(default_factory=list)
    reasoning: JSON = None
    cached: Origin | None = None
    counted: Usage | None = None


class ModelFailed(Event, frozen=True, kw_only=True):
    """The root model gave no reply. `usage` is what the last attempt is known to have cost."""

    call: str
    error: str
    message: str
    seconds: float
    usage: Usage | None = None


class ModelRetried(Event, frozen=True, kw_only=True):
    """An attempt of a root call or a sub-call failed and another one follows after `wait` seconds.

    `usage` is what the attempt is known to have cost; the final reply's usage does not include it.
    """

    call: str
    attempt: int
    error: str
    message: str
    wait: float
    usage: Usage | None = None

    @classmethod
    def of(cls, call: str, attempt: int, error: BaseException, wait: float) -> ModelRetried:
        """Return what is recorded of an attempt that failed with `error`."""
        usage = getattr(error, "usage", None)
        return cls(call=call, attempt=attempt, error=type(error).__name__, message=str(error), wait=wait, usage=usage)


class ImageSent(msgspec.Struct, frozen=True, kw_only=True):
    """An image that went with a question: `digest` is SHA-256 of its bytes, `context` the one it is from, if any."""

    digest: str
    media_type: str
    size: int
    context: str | None = None


class SubcallRequested(Event, frozen=True, kw_only=True):
    """A cell asked a sub-model and the host took the call. `asked` is the model the cell named, None if it did not.

    The answer to one of `kind` "rlm" comes from a session of its own, whose events have this call's name at the end of
    their `node`; `context_digest` names the context it was given, None where that is the prompt.
    """

    call: str
    cell: int
    model: str
    prompt: str
    asked: str | None = None
    max_output_tokens: int | None = None
    kind: Literal["llm", "rlm"] = "llm"
    context_digest: str | None = None
    images: list[ImageSent] = msgspec.field(default_factory=list)


class SubcallReplied(Event, frozen=True, kw_only=True):
    """A sub-call's answer; the fields are those of `ModelReplied`.

    `cached` says where it is from if the provider was not asked; then `usage` is nothing, and `attempts` 0. `note` is
    what the cell was told of it beside the text.
    """

    call: str
    text: str
    finish_reason: str
    usage: Usage
    seconds: float
    attempts: int
    served_by: str
    reply_id: str | None = None
    cached: Origin | None = None
    note: str = ""


class SubcallFailed(Event, frozen=True, kw_only=True):
    """A sub-call without an answer: `code` and `told` are what the guest was told, `usage` as in `ModelFailed`."""

    call: str
    code: str
    error: str
    message: str
    seconds: float
    usage: Usage | None = None
    told: str = ""


class SubcallRefused(Event, frozen=True, kw_only=True):
    """A sub-call that the host did not take, for example as no cell ran (`cell` None).

    `prompt` is its beginning, `prompt_length` its length in characters. After the first 100 between two cells' ends
    only a `Notice` counts them.
    """

    call: str
    cell: int | None
    reason: str
    asked: str | None
    prompt: str
    prompt_length: int
