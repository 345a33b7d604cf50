"""The kinds of sub-calls: what of each is refused, recorded and answered."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from rlm_kernel.bridge.messages import LlmMessage, RlmMessage, SubcallMessage
from rlm_kernel.budget import Budget
from rlm_kernel.events import AnyEvent, SubcallReplied, SubcallRequested
from rlm_kernel.guest.wire import ErrorCode
from rlm_kernel.models.model import Model, ModelRequest, OnRetry
from rlm_kernel.types import JSON, Message

Models = Mapping[str | None, Model]


@dataclass(frozen=True, slots=True)
class Offer:
    """What cells may call, by the names that they know, None being the default.

    `models` answer one request each; each of `children` answers with a session of its own, and there are none where
    the depth limit is reached. Once `budget` is spent nothing is on offer.
    """

    models: Models
    children: Models = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)

    def refusal(self) -> Refusal | None:
        """Return why no call at all is taken; None if there may be calls."""
        if self.budget.spent is None:
            return None
        return Refusal("the run's budget is spent, no more calls are made", ErrorCode.BUDGET_EXCEEDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A sub-call that the host has taken: `call` is its name, `started` a time of `time.monotonic`."""

    call: str
    cell: int
    message: Any
    started: float
    on_retry: OnRetry


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to the guest, and the event that is recorded before."""

    content: dict[str, JSON]
    event: AnyEvent


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a sub-call is not taken, in words for the guest."""

    reason: str
    code: ErrorCode = ErrorCode.REFUSED


class Kind(Protocol):
    """What deals with the messages of one kind."""

    @property
    def waits(self) -> bool:
        """Whether it only waits for what has limits of its own, so that it takes no room from other calls."""

    def refusal(self, message: Any) -> Refusal | None:
        """Return why `message` is not taken; None if it is."""

    def requested(self, call: str, cell: int, message: Any) -> AnyEvent:
        """Return what is recorded before the call is made."""

    async def answer(self, taken: Taken) -> Answer:
        """Make the call. Any error is a failed sub-call; a cancel leaves nothing behind."""


def kinds(offer: Offer, max_reply_tokens: int | None) -> dict[type[SubcallMessage], Kind]:
    """Return what deals with each message's type."""
    return {
        LlmMessage: AskModel(offer.models, max_reply_tokens),
        RlmMessage: AskChild(offer.children, max_reply_tokens),
    }


@dataclass(frozen=True, slots=True)
class AskModel:
    """Asks a sub-model."""

    models: Models
    max_reply_tokens: int | None
    waits = False

    def refusal(self, message: LlmMessage | RlmMessage) -> Refusal | None:
        """Take what is for an allowed model."""
        if message.model in self.models:
            return None
        return Refusal(f"the model {str(message.model)[:100]!r} is not allowed here; leave it out for the default one")

    def requested(self, call: str, cell: int, message: LlmMessage | RlmMessage) -> SubcallRequested:
        """Return the whole request."""
        return SubcallRequested(
            call=call,
            cell=cell,
            model=self.models[message.model].name,
            prompt=message.prompt,
            asked=message.model,
            max_output_tokens=self.max_reply_tokens,
        )

    async def answer(self, taken: Taken) -> Answer:
        """Return the model's reply."""
        completion = await self.models[taken.message.model].complete(self._request(taken))
        event = SubcallReplied(
            call=taken.call,
            text=completion.text,
            finish_reason=completion.finish_reason,
            usage=completion.usage,
            seconds=time.monotonic() - taken.started,
            attempts=completion.attempts,
            served_by=completion.served_by,
            reply_id=completion.reply_id,
            cached=completion.cached,
        )
        note = {"note": completion.note} if completion.note else {}
        return Answer({"text": completion.text, **note}, event)

    def _request(self, taken: Taken) -> ModelRequest:
        return ModelRequest(
            messages=(Message(role="user", content=taken.message.prompt),),
            max_output_tokens=self.max_reply_tokens,
            on_retry=taken.on_retry,
        )


class AskChild(AskModel):
    """Asks a session of its own; its models have their own limits."""

    __slots__ = ()
    waits = True

    def refusal(self, message: LlmMessage | RlmMessage) -> Refusal | None:
        """Take what is for an allowed model, if there may be children at all."""
        if not self.models:
            return Refusal("the run's depth limit is reached: use llm_query here", ErrorCode.DEPTH_EXCEEDED)
        return AskModel.refusal(self, message)

    def requested(self, call: str, cell: int, message: LlmMessage | RlmMessage) -> SubcallRequested:
        """Return the request; of its context only what names it, as the child records that."""
        assert isinstance(message, RlmMessage)
        event = AskModel.requested(self, call, cell, message)
        return msgspec.structs.replace(event, kind="rlm", context_digest=context_digest(_context(message)))

    def _request(self, taken: Taken) -> ModelRequest:
        return ModelRequest(
            messages=(Message(role="user", content=taken.message.prompt),),
            on_retry=taken.on_retry,
            context=_context(taken.message),
            call=taken.call,
        )


def context_digest(context: str | msgspec.Raw | None) -> str | None:
    """Return what names `context` in the content store, SHA-256 in hexadecimal; None for no context."""
    if context is None:
        return None
    return hashlib.sha256(context.encode() if isinstance(context, str) else context).hexdigest()


def _context(message: RlmMessage) -> str | msgspec.Raw | None:
    """Return the context as text where it is text, else as JSON that nobody has decoded."""
    if message.context is msgspec.UNSET:
        return None
    raw = bytes(message.context)
    return msgspec.json.decode(raw, type=str) if raw.startswith(b'"') else msgspec.Raw(raw)
