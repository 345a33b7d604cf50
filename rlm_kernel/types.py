"""Values that every layer speaks of: messages to a model, what it used, and JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

if TYPE_CHECKING:
    JSON: TypeAlias = dict[str, "JSON"] | list["JSON"] | str | int | float | bool | None
else:
    JSON = Any  # msgspec reads annotations at run time and knows no recursive aliases

Role = Literal["system", "user", "assistant", "tool"]


class Image(msgspec.Struct, frozen=True):
    """An image; `media_type` is as in `image/png`."""

    media_type: str
    data: bytes


class Tool(msgspec.Struct, frozen=True):
    """A function that a model may call; `parameters` is the JSON schema of its arguments."""

    name: str
    description: str
    parameters: dict[str, JSON]


class ToolCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model's call of a tool. `arguments` is JSON as the model wrote it, which may be broken.

    `extra` is what the provider added of its own and wants back with the call.
    """

    id: str
    name: str
    arguments: str
    extra: dict[str, JSON] | None = None


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message of a conversation with a model.

    `tool_calls` and `reasoning` are an assistant's; `reasoning` is JSON in the provider's own shape that goes back as
    it came. A message of the role "tool" answers the call `tool_call_id`. `images` are a user's.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    reasoning: JSON = None
    images: tuple[Image, ...] = ()


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What calls to one model used, in tokens, and what they cost, in US dollars.

    `input_tokens` includes those read from the provider's cache and those written to it. `cost_usd` is None as soon as
    one call's price is unknown.
    """

    calls: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0

    @property
    def total_tokens(self) -> int:
        """The tokens in and out."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        cost = None if self.cost_usd is None or other.cost_usd is None else self.cost_usd + other.cost_usd
        return Usage(
            calls=self.calls + other.calls,
            input_tokens=self.input_tokens + other.input_tokens,
            cached_input_tokens=self.cached_input_tokens + other.cached_input_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost_usd=cost,
        )

    def __sub__(self, earlier: Usage) -> Usage:
        """Return what was used since `earlier`, a part of this."""
        cost = None if self.cost_usd is None or earlier.cost_usd is None else self.cost_usd - earlier.cost_usd
        return Usage(
            calls=self.calls - earlier.calls,
            input_tokens=self.input_tokens - earlier.input_tokens,
            cached_input_tokens=self.cached_input_tokens - earlier.cached_input_tokens,
            cache_write_tokens=self.cache_write_tokens - earlier.cache_write_tokens,
            output_tokens=self.output_tokens - earlier.output_tokens,
            cost_usd=cost,
        )


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where an answer is from that was not asked for anew: stored earlier, or that of an equal call under way.

    "recorded": it is this run's own, from the recording that it goes on from.

    `run` is the one that asked for it and paid, `at` the time in UTC when it had it.
    """

    how: Literal["stored", "joined", "recorded"]
    run: str
    at: str
