"""Replies as providers stream them: a whole reply's body, cut up into its interface's events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

PIECE = 3
"""Characters of a text in one event."""


def openai_events(reply: dict[str, Any]) -> list[bytes]:
    """Return the events of a chat completion; the usage comes last, alone, as `include_usage` has it."""
    choice = reply["choices"][0]
    head = {"id": reply.get("id"), "object": "chat.completion.chunk", "model": reply.get("model")}

    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        return head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}], "usage": None}

    chunks = [chunk({"role": "assistant", "content": ""})]
    for name, value in choice["message"].items():
        if isinstance(value, str) and name != "role":
            chunks += [chunk({name: piece}) for piece in _pieces(value)]
        elif name == "reasoning_details":
            chunks += [chunk({name: [detail]}) for detail in value]
    for index, call in enumerate(choice["message"].get("tool_calls") or []):
        function = call["function"]
        others = {key: value for key, value in call.items() if key != "function"}
        chunks.append(
            chunk({"tool_calls": [{"index": index, **others, "function": {"name": function["name"], "arguments": ""}}]})
        )
        chunks += [
            chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
            for piece in _pieces(function["arguments"])
        ]
    chunks.append(chunk({}, choice["finish_reason"]))
    if reply.get("usage"):
        chunks.append(head | {"choices": [], "usage": reply["usage"]})
    return [*(f"data: {json.dumps(each)}\n\n".encode() for each in chunks), b"data: [DONE]\n\n"]


def anthropic_events(reply: dict[str, Any]) -> list[bytes]:
    """Return the events of a message."""
    usage = reply.get("usage") or {}
    start = reply | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": start}, {"type": "ping"}]
    for index, block in enumerate(reply["content"]):
        empty, deltas = _block(block)
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": reply.get("stop_reason"), "stop_sequence": None}
    events.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": usage.get("output_tokens", 0)}})
    events.append({"type": "message_stop"})
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]


def _block(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    match block["type"]:
        case "text":
            return block | {"text": ""}, [{"type": "text_delta", "text": piece} for piece in _pieces(block["text"])]
        case "thinking":
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(block["thinking"])]
            signed = {"type": "signature_delta", "signature": block["signature"]}
            return block | {"thinking": "", "signature": ""}, [*deltas, signed]
        case "tool_use":
            deltas = [
                {"type": "input_json_delta", "partial_json": piece} for piece in _pieces(json.dumps(block["input"]))
            ]
            return block | {"input": {}}, deltas
    return block, []


def _pieces(text: str) -> Iterator[str]:
    return (text[at : at + PIECE] for at in range(0, len(text), PIECE))
