"""What the guest sends for a sub-call: one schema for each kind."""

from __future__ import annotations

from typing import Annotated

import msgspec

from rlm_kernel.errors import GuestProtocolError
from rlm_kernel.guest.wire import MAX_IMAGES

Id = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Prompt = Annotated[str, msgspec.Meta(min_length=1)]
ContextName = Annotated[str, msgspec.Meta(max_length=200)]


class ImageMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An image that goes with a question: one of a context, by that one's name, or `data` in base64."""

    context: ContextName | None = None
    data: str | None = None


class LlmMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="llm"):
    """A question to a sub-model; `id` is the guest's own."""

    id: Id
    prompt: Prompt
    model: str | None = None
    images: Annotated[list[ImageMessage], msgspec.Meta(max_length=MAX_IMAGES)] = []


class RlmMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="rlm"):
    """A question to a session of its own, about `context` or, where it is left out, about the prompt itself.

    `context` stays the bytes it came in: as Python values they could take many times the memory.
    """

    id: Id
    prompt: Prompt
    model: str | None = None
    context: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class ToolMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="tool"):
    """A call of a host tool; `arguments` is JSON that is read only once its tool is known."""

    id: Id
    tool: Annotated[str, msgspec.Meta(max_length=200)]
    arguments: str


SubcallMessage = LlmMessage | RlmMessage | ToolMessage

_DECODER: msgspec.json.Decoder[SubcallMessage] = msgspec.json.Decoder(SubcallMessage)


def read_message(payload: bytes) -> SubcallMessage:
    """Return a sub-call's message. Raise `GuestProtocolError` for anything else."""
    try:
        message = _DECODER.decode(payload)
        if isinstance(message, RlmMessage) and message.context is not msgspec.UNSET:
            bytes(message.context).decode()  # the decoder looks at the syntax of what it leaves as it is, and no more
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise GuestProtocolError(f"the container sent a malformed sub-call: {error}") from None
    return message
