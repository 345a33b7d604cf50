"""OpenAI's chat completions on the wire: what a request's body says, and what a reply's body means."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from rlm_kernel.models.model import Completion, ModelRequest
from rlm_kernel.types import JSON, Message, Tool, ToolCall, Usage

_WITH_TOOLS = ("reasoning_content", "reasoning")
"""Reasoning as text. DeepSeek demands it back in conversations with tools and once refused it in others; so do we."""
_ALWAYS = "reasoning_details"
"""OpenRouter's reasoning, signatures included. It stands for the text, too."""


class _Function(msgspec.Struct):
    name: str = ""
    arguments: str | dict[str, Any] | None = None


class _Call(msgspec.Struct):
    function: _Function
    id: str | None = None
    extra_content: dict[str, Any] | None = None


Content: TypeAlias = str | list[dict[str, Any]] | None
"""A message's text, which Mistral's models give in parts, with their thinking among them."""


class _Message(msgspec.Struct):
    content: Content = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[Any] | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _InputDetails | None = None


class Reply(msgspec.Struct):
    """A reply's body. With an `error` it failed after it had begun, which OpenRouter says with a status of 200."""

    choices: list[_Choice] | None = None
    id: str | None = None
    model: str | None = None
    usage: _Usage | None = None
    error: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.choices is None and self.error is None:
            raise ValueError("Object missing required field `choices`")


def text_of(content: Content) -> str:
    """Return a message's text, of parts that of those which are text."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if isinstance(part.get("text"), str))
    return content or ""


def body(model: str, request: ModelRequest, max_tokens_field: str) -> dict[str, Any]:
    """Return a request's body. Equal messages are equal bytes, so that the provider's cache finds them."""
    said: dict[str, Any] = {
        "model": model,
        "messages": [_message(message, bool(request.tools)) for message in request.messages],
    }
    if request.tools:
        said["tools"] = tools(request.tools)
    if request.max_output_tokens is not None:
        said[max_tokens_field] = request.max_output_tokens
    return said | dict(request.extra)


def tools(offered: Sequence[Tool]) -> list[dict[str, Any]]:
    """Return tools in OpenAI's shape."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
        }
        for tool in offered
    ]


def _message(message: Message, with_tools: bool) -> dict[str, Any]:
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": message.content}
    if message.role == "assistant":
        said = {"role": "assistant", "content": message.content or None, **_reasoning(message.reasoning, with_tools)}
        return said | ({"tool_calls": [_call(call) for call in message.tool_calls]} if message.tool_calls else {})
    if not message.images:
        return {"role": message.role, "content": message.content}
    images = [
        {
            "type": "image_url",
            "image_url": {"url": f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}"},
        }
        for image in message.images
    ]
    return {"role": message.role, "content": [{"type": "text", "text": message.content}, *images]}


def _call(call: ToolCall) -> dict[str, Any]:
    said = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
    return said | (call.extra or {})


def _reasoning(reasoning: JSON, with_tools: bool) -> dict[str, Any]:
    if not isinstance(reasoning, dict):
        return {}
    if _ALWAYS in reasoning:
        return {_ALWAYS: reasoning[_ALWAYS]}
    return {name: reasoning[name] for name in _WITH_TOOLS if name in reasoning} if with_tools else {}


def completion(reply: Reply, model: str) -> Completion:
    """Return what a reply means; the cost is left unknown."""
    choice = reply.choices[0] if reply.choices else _Choice(_Message())
    message = choice.message
    text = text_of(message.content)
    used = reply.usage or _Usage()
    details = used.prompt_tokens_details or _InputDetails()
    refused = not text and message.refusal is not None
    calls = tuple(_tool_call(number, call) for number, call in enumerate(message.tool_calls or [], 1))
    reasoning = {name: value for name in (*_WITH_TOOLS, _ALWAYS) if (value := getattr(message, name)) is not None}
    return Completion(
        text=text or message.refusal or "",
        finish_reason="refusal" if refused else choice.finish_reason or "unknown",
        usage=Usage(
            calls=1,
            input_tokens=used.prompt_tokens or 0,
            cached_input_tokens=details.cached_tokens or 0,
            output_tokens=used.completion_tokens or 0,
            cost_usd=None,
        ),
        served_by=reply.model or model,
        reply_id=reply.id,
        tool_calls=calls,
        reasoning=reasoning or None,
    )


def _tool_call(number: int, call: _Call) -> ToolCall:
    """Return a call; some servers give no id, or the arguments as an object."""
    arguments = call.function.arguments
    return ToolCall(
        id=call.id or f"call_{number}",
        name=call.function.name,
        arguments=json.dumps(arguments) if isinstance(arguments, dict) else arguments or "",
        extra=None if call.extra_content is None else {"extra_content": call.extra_content},
    )
