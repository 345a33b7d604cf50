"""A streamed reply of OpenAI's chat completions, put together into the body that it would have had unstreamed."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from rlm_kernel.models.model import OnText, TextDelta
from rlm_kernel.models.openai_wire import Content, text_of

_TEXTS = ("refusal", "reasoning_content", "reasoning")
_JOINED = ("text", "summary", "data")
"""The fields of one of OpenRouter's reasoning details that come in pieces."""


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None
    extra_content: dict[str, Any] | None = None


class _Delta(msgspec.Struct):
    content: Content = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[dict[str, Any]] | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    id: str | None = None
    model: str | None = None
    usage: dict[str, Any] | None = None


class StreamedReply:
    """Takes a stream's chunks, passes text on, and becomes a reply's body."""

    def __init__(self, on_text: OnText) -> None:
        self._on_text = on_text
        self._head: dict[str, Any] = {}
        self._texts: dict[str, list[str]] = {}
        self._calls: list[dict[str, Any]] = []
        self._places: dict[int, dict[str, Any]] = {}
        self._details: dict[tuple[object, object], dict[str, Any]] = {}
        self._finish_reason: str | None = None

    @property
    def complete(self) -> bool:
        """Whether the reply came to its end."""
        return self._finish_reason is not None

    def take(self, data: object) -> None:
        """Take one chunk. Raise `msgspec.ValidationError` if it is none."""
        chunk = msgspec.convert(data, _Chunk)
        for name in ("id", "model", "usage"):
            if (value := getattr(chunk, name)) is not None:
                self._head[name] = value
        for choice in chunk.choices or []:
            if choice.index == 0:
                self._finish_reason = choice.finish_reason or self._finish_reason
                if choice.delta is not None:
                    self._add(choice.delta)

    def body(self) -> dict[str, Any]:
        """Return what the reply's body would have been."""
        message: dict[str, Any] = {name: "".join(pieces) for name, pieces in self._texts.items()}
        if self._calls:
            message["tool_calls"] = self._calls
        if self._details:
            message["reasoning_details"] = list(self._details.values())
        return {**self._head, "choices": [{"message": message, "finish_reason": self._finish_reason}]}

    def _add(self, delta: _Delta) -> None:
        content = None if delta.content is None else text_of(delta.content)
        for name, piece in (("content", content), *((name, getattr(delta, name)) for name in _TEXTS)):
            if piece is not None:
                self._texts.setdefault(name, []).append(piece)
            if piece:
                self._on_text(TextDelta("reasoning" if name.startswith("reasoning") else "text", piece))
        for detail in delta.reasoning_details or []:
            self._add_detail(detail)
        for call in delta.tool_calls or []:
            self._add_call(call)

    def _add_detail(self, detail: dict[str, Any]) -> None:
        place = (detail.get("index", len(self._details)), detail.get("type"))
        whole = self._details.setdefault(place, {})
        for name, value in detail.items():
            if name in _JOINED and isinstance(value, str) and isinstance(whole.get(name), str):
                whole[name] += value
            elif value is not None or name not in whole:
                whole[name] = value

    def _add_call(self, piece: _Call) -> None:
        said = piece.function or _Function()
        call = self._call_of(piece, said.arguments or "")
        call["id"] = call["id"] or piece.id
        function = call["function"]
        function["name"] = function["name"] or said.name or ""
        if piece.extra_content is not None:
            call["extra_content"] = piece.extra_content
        if said.arguments:
            function["arguments"] += said.arguments
            self._on_text(TextDelta("arguments", said.arguments))

    def _call_of(self, piece: _Call, arguments: str) -> dict[str, Any]:
        """Return the call that a piece belongs to.

        Some servers give calls without an index, or all of them the same one, with or without ids.
        """
        if piece.index is not None:
            call = self._places.get(piece.index)
        elif piece.id:
            call = next((call for call in self._calls if call["id"] == piece.id), None)
        else:
            call = self._calls[-1] if self._calls else None
        if call is None or _begins_another(call, piece.id, arguments):
            call = {"id": None, "function": {"name": "", "arguments": ""}}
            self._calls.append(call)
        if piece.index is not None:
            self._places[piece.index] = call
        return call


def _begins_another(call: dict[str, Any], identity: str | None, arguments: str) -> bool:
    """Tell whether a piece is of another call than `call`: by its id, or as `call` has all its arguments already."""
    if identity and call["id"] and identity != call["id"]:
        return True
    before = call["function"]["arguments"]
    return arguments.startswith("{") and before.endswith("}") and _is_json(before)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
