"""The kinds of sub-calls: what of each is refused, recorded and answered."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from rlm_kernel.bridge.images import Images
from rlm_kernel.bridge.messages import ImageMessage, LlmMessage, RlmMessage, SubcallMessage, ToolMessage
from rlm_kernel.bridge.told import KnownFailure
from rlm_kernel.budget import Budget
from rlm_kernel.events import (
    AnyEvent,
    SubcallFailed,
    SubcallRefused,
    SubcallReplied,
    SubcallRequested,
    ToolFailed,
    ToolRefused,
    ToolReplied,
    ToolRequested,
)
from rlm_kernel.guest.wire import ErrorCode
from rlm_kernel.models.model import Model, ModelRequest, OnRetry
from rlm_kernel.tools import Toolbox, ToolCallFailed, Tools
from rlm_kernel.types import JSON, Image, Message

Models = Mapping[str | None, Model]

MAX_ARGUMENTS = 1024 * 1024
"""Characters of JSON that a tool's call may have."""
_REFUSED_SHOWN = 1_000


@dataclass(frozen=True, slots=True)
class Offer:
    """What cells may call, by the names that they know, None being the default.

    `models` answer one request each; each of `children` answers with a session of its own, and there are none where
    the depth limit is reached. `tools` run on the host, `images` are those of contexts. Once `budget` is spent
    nothing is on offer. `known`: the answers are there, and come in an order of their own, so that no call takes the
    room that others wait for. `refused` says why a call is not taken beside all that.
    """

    models: Models
    children: Models = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    tools: Tools = field(default_factory=Toolbox)
    images: Images = field(default_factory=Images)
    known: bool = False
    refused: Callable[[SubcallMessage], Refusal | None] = lambda message: None

    def refusal(self, message: SubcallMessage) -> Refusal | None:
        """Return why a call is not taken, whatever it asks for; None if it may be."""
        if self.budget.spent is None:
            return self.refused(message)
        return Refusal("the run's budget is spent, no more calls are made", ErrorCode.BUDGET_EXCEEDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A sub-call that the host has taken: `call` is its name, `started` a time of `time.monotonic`.

    `takes_room`: from the beginning, and not only once it has its answer.
    """

    call: str
    cell: int
    message: Any
    started: float
    takes_room: bool
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

    def refused(self, call: str, cell: int | None, message: Any, reason: str) -> AnyEvent:
        """Return what is recorded of a message that is not taken."""

    def failed(self, taken: Taken, error: BaseException, code: ErrorCode, told: str) -> AnyEvent:
        """Return what is recorded of a call without an answer; the guest is given `code` and `told`."""

    async def answer(self, taken: Taken) -> Answer:
        """Make the call. Any error is a failed sub-call; a cancel leaves nothing behind."""


def kinds(offer: Offer, max_reply_tokens: int | None) -> dict[type[SubcallMessage], Kind]:
    """Return what deals with each message's type."""
    return {
        LlmMessage: AskModel(offer.models, max_reply_tokens, offer.images),
        RlmMessage: AskChild(offer.children, max_reply_tokens, offer.images),
        ToolMessage: CallTool(offer.tools),
    }


@dataclass(frozen=True, slots=True)
class AskModel:
    """Asks a sub-model."""

    models: Models
    max_reply_tokens: int | None
    images: Images
    waits = False

    def refusal(self, message: LlmMessage | RlmMessage) -> Refusal | None:
        """Take what is for an allowed model, with images that are some."""
        if message.model in self.models:
            try:
                self.images.described(_images(message))
            except ValueError as error:
                return Refusal(str(error))
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
            images=self.images.described(_images(message)),
        )

    def refused(self, call: str, cell: int | None, message: LlmMessage | RlmMessage, reason: str) -> SubcallRefused:
        """Return the request's beginning."""
        return SubcallRefused(
            call=call,
            cell=cell,
            reason=reason,
            asked=message.model and message.model[:_REFUSED_SHOWN],
            prompt=message.prompt[:_REFUSED_SHOWN],
            prompt_length=len(message.prompt),
        )

    def failed(self, taken: Taken, error: BaseException, code: ErrorCode, told: str) -> SubcallFailed:
        """Return what the error says, and what it is known to have cost."""
        return SubcallFailed(
            call=taken.call,
            code=code,
            error=error.error if isinstance(error, KnownFailure) else type(error).__name__,
            message=str(error),
            seconds=time.monotonic() - taken.started,
            usage=getattr(error, "usage", None),
            told=told,
        )

    async def answer(self, taken: Taken) -> Answer:
        """Return the model's reply."""
        async with self.images.loaded(_images(taken.message)) as images:
            completion = await self.models[taken.message.model].complete(self._request(taken, images))
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
            note=completion.note,
        )
        note = {"note": completion.note} if completion.note else {}
        return Answer({"text": completion.text, **note}, event)

    def _request(self, taken: Taken, images: tuple[Image, ...]) -> ModelRequest:
        return ModelRequest(
            messages=(Message(role="user", content=taken.message.prompt, images=images),),
            max_output_tokens=self.max_reply_tokens,
            on_retry=taken.on_retry,
            call=taken.call,
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

    def _request(self, taken: Taken, images: tuple[Image, ...]) -> ModelRequest:
        return ModelRequest(
            messages=(Message(role="user", content=taken.message.prompt),),
            max_output_tokens=self.max_reply_tokens,
            on_retry=taken.on_retry,
            context=_context(taken.message),
            call=taken.call,
        )


@dataclass(frozen=True, slots=True)
class CallTool:
    """Calls a host tool, which has limits of its own."""

    tools: Tools
    waits = False

    def refusal(self, message: ToolMessage) -> Refusal | None:
        """Take calls of known tools, with arguments of bounded length."""
        if len(message.arguments) > MAX_ARGUMENTS:
            return Refusal(
                f"its arguments have {len(message.arguments):,} characters, at most {MAX_ARGUMENTS:,} can be"
            )
        reason = self.tools.refusal(message.tool)
        return None if reason is None else Refusal(reason)

    def requested(self, call: str, cell: int, message: ToolMessage) -> ToolRequested:
        """Return the whole call."""
        return ToolRequested(call=call, cell=cell, tool=message.tool, arguments=message.arguments)

    def refused(self, call: str, cell: int | None, message: ToolMessage, reason: str) -> ToolRefused:
        """Return the call's beginning."""
        return ToolRefused(
            call=call,
            cell=cell,
            tool=message.tool,
            reason=reason,
            arguments=message.arguments[:_REFUSED_SHOWN],
            arguments_length=len(message.arguments),
        )

    def failed(self, taken: Taken, error: BaseException, code: ErrorCode, told: str) -> ToolFailed:
        """Return what happened on the host."""
        cause = error.__cause__
        known = cause if isinstance(cause, ToolCallFailed) else error
        name = known.error if isinstance(known, ToolCallFailed | KnownFailure) else type(error).__name__
        return ToolFailed(
            call=taken.call,
            code=code,
            error=name,
            message=str(cause or error),
            seconds=time.monotonic() - taken.started,
            told=told,
        )

    async def answer(self, taken: Taken) -> Answer:
        """Return the tool's result, as JSON text."""
        try:
            result = await self.tools.call(taken.message.tool, taken.message.arguments)
        except ToolCallFailed as error:
            raise KnownFailure(ErrorCode.FAILED, error.told) from error
        seconds = time.monotonic() - taken.started
        return Answer({"text": result}, ToolReplied(call=taken.call, result=result, seconds=seconds))


def _images(message: LlmMessage | RlmMessage) -> Sequence[ImageMessage]:
    return message.images if isinstance(message, LlmMessage) else ()


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
