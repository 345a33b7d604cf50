"""Anthropic's messages on the wire: what a request's body says, and what a reply's body means."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec

from rlm_kernel.models.model import Completion, ModelRequest
from rlm_kernel.types import Message, ToolCall, Usage

_EPHEMERAL = {"type": "ephemeral"}
_THINKING = {"thinking", "redacted_thinking"}
_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
}
"""Anthropic's words for what `Completion.finish_reason` says as OpenAI does; others, as "refusal", stay."""


class _Usage(msgspec.Struct):
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Block(msgspec.Struct):
    type: str
    text: str = ""
    id: str = ""
    name: str = ""
    input: dict[str, Any] = {}


class Reply(msgspec.Struct):
    """A reply's body."""

    content: list[dict[str, Any]]
    id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None


def body(model: str, request: ModelRequest, max_tokens: int) -> dict[str, Any]:
    """Return a request's body. Equal messages are equal bytes, so that the provider's cache finds them.

    A conversation comes back longer, so the provider keeps it up to its end, and apart from it the system prompt, which
    other sessions share; a lone prompt never comes back. What is too short to be kept costs nothing more.
    """
    system = "\n\n".join(message.content for message in request.messages if message.role == "system")
    comes_back = len(request.messages) > 1
    said: dict[str, Any] = {
        "model": model,
        "max_tokens": request.max_output_tokens or max_tokens,
        "messages": _messages([message for message in request.messages if message.role != "system"]),
    }
    if system:
        said["system"] = [{"type": "text", "text": system, **({"cache_control": _EPHEMERAL} if comes_back else {})}]
    if request.tools:
        said["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
            for tool in request.tools
        ]
    if comes_back:
        said["cache_control"] = _EPHEMERAL
    return said | dict(request.extra)


def _messages(messages: list[Message]) -> list[dict[str, Any]]:
    """Return messages in Anthropic's shape: all results of a reply's tools, and what follows them, are one message."""
    said: list[dict[str, Any]] = []
    results: list[dict[str, Any]] | None = None
    for message in messages:
        if message.role == "assistant":
            results = None
            said.append({"role": "assistant", "content": _assistant(message)})
        elif message.role == "tool":
            if results is None:
                results = []
                said.append({"role": "user", "content": results})
            results.append({"type": "tool_result", "tool_use_id": message.tool_call_id, "content": message.content})
        elif results is not None:
            results += _parts(message)
        else:
            said.append({"role": message.role, "content": _parts(message) if message.images else message.content})
    return said


def _parts(message: Message) -> list[dict[str, Any]]:
    images = [
        {
            "type": "image",
            "source": {
                "type": "base64",
                "media_type": image.media_type,
                "data": base64.b64encode(image.data).decode(),
            },
        }
        for image in message.images
    ]
    return [*images, {"type": "text", "text": message.content}]


def _assistant(message: Message) -> Any:
    if isinstance(message.reasoning, list):
        return message.reasoning
    if not message.tool_calls:
        return message.content
    text = [{"type": "text", "text": message.content}] if message.content else []
    calls = [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments(call.arguments)}
        for call in message.tool_calls
    ]
    return [*text, *calls]


def arguments(text: str) -> dict[str, Any]:
    """Return a call's arguments from their JSON text; none of a call that was cut off, or is no JSON object."""
    try:
        given = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return {}
    return given if isinstance(given, dict) else {}


def completion(reply: Reply, model: str) -> Completion:
    """Return what a reply means; the cost is left unknown. Raise `msgspec.ValidationError`.

    Of a reply with thinking every block is kept as `reasoning`, in order, as the provider checks that they come back
    unchanged; but for blank texts, which it refuses.
    """
    used = reply.usage or _Usage()
    read, written = used.cache_read_input_tokens or 0, used.cache_creation_input_tokens or 0
    reason = reply.stop_reason or "unknown"
    blocks = msgspec.convert(reply.content, list[_Block])
    thought = any(block.type in _THINKING for block in blocks)
    return Completion(
        text="".join(block.text for block in blocks if block.type == "text"),
        finish_reason=_FINISH_REASONS.get(reason, reason),
        usage=Usage(
            calls=1,
            input_tokens=used.input_tokens + read + written,
            cached_input_tokens=read,
            cache_write_tokens=written,
            output_tokens=used.output_tokens,
            cost_usd=None,
        ),
        served_by=reply.model or model,
        reply_id=reply.id,
        tool_calls=tuple(
            ToolCall(id=block.id, name=block.name, arguments=json.dumps(block.input, ensure_ascii=False))
            for block in blocks
            if block.type == "tool_use"
        ),
        reasoning=[block for block in reply.content if block.get("type") != "text" or str(block.get("text")).strip()]
        if thought
        else None,
    )
