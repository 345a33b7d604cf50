"""What the provider clients share: where they send, over which HTTP client, and how foreign errors become ours."""

from __future__ import annotations

import asyncio
import email.utils
import json
import math
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar
from urllib.parse import urlsplit

import aiohttp
import httpx2
import msgspec

from rlm_kernel.errors import (
    ModelAuthError,
    ModelError,
    ModelRejected,
    ModelReplyInvalid,
    ModelTimeout,
    ModelUnavailable,
    ModelUnreachable,
    PromptTooLong,
    RateLimited,
    ToolsRefused,
)
from rlm_kernel.models.model import Completion

Shape = TypeVar("Shape")


class SentEvents(Protocol):
    """The events of a stream, as data; closed when its block ends."""

    async def __aenter__(self) -> object: ...

    async def __aexit__(self, *exc_info: Any) -> None: ...

    def __aiter__(self) -> AsyncIterator[object]: ...


class StreamedBody(Protocol):
    """A reply that grows; `complete` once it came to its end."""

    @property
    def complete(self) -> bool: ...

    def take(self, data: object) -> None:
        """Take one event."""

    def body(self) -> dict[str, Any]:
        """Return what the body would have been unstreamed."""


LIMITS = httpx2.Limits(max_connections=0, max_keepalive_connections=None)
"""No limit but our own: aiohttp takes 0 as none, and None as its default of 100 connections."""
TIMEOUT = httpx2.Timeout(None, connect=10.0)
"""A reply's one clock is ours, over the whole attempt: an HTTP client's read timeout starts anew with every byte."""

_NO_CONNECTION = (httpx2.ConnectError, httpx2.ConnectTimeout, aiohttp.ClientConnectorError)
_DETAIL_LIMIT = 500
_SECRET_LENGTH = 8
"""A shorter key is a placeholder such as `x`, and would be masked out of other words."""
_TOO_LONG = re.compile(
    r"context[ _](length|window|size|limit)|prompt is too long|maximum context|input token count|too many input tokens"
    r"|exceed_context_size|input length and `max_tokens`",
    re.IGNORECASE,
)
"""How OpenAI, Anthropic, Gemini, OpenRouter, vLLM and llama.cpp say that a conversation does not fit."""
_OF_TOOLS = re.compile(r"\btool", re.IGNORECASE)
_NO_TOOLS = re.compile(r"tools? (param )?requires|not support tools?|tool (use|calling) is not", re.IGNORECASE)
"""How servers say with a 500 that they can't call tools."""
_PASSING = frozenset({408, 409})
"""Refusals for a moment's reason (a slow upload, a lock), which both SDKs repeat too."""
_BUSY = frozenset({429})
_REFUSED = frozenset({400, 401, 402, 403, 404})
"""OpenRouter's codes of errors within a reply."""
_SILENT = {
    "length": "the output limit was spent before any text: allow more output tokens",
    "content_filter": "a content filter withheld the text: change the prompt",
    "refusal": "the model refused to answer: change the prompt",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Where a model answers. `name` is ours (`provider:model`), `model` the provider's own.

    `key_name` is what the key's owner calls it, `seconds` bounds one attempt. `max_tokens_field`: api.openai.com
    wants `max_completion_tokens`, other servers may know only `max_tokens`.
    """

    name: str
    model: str
    base_url: str
    api_key: str | None = field(default=None, repr=False)
    key_name: str = "the API key"
    seconds: float = 120.0
    max_tokens_field: Literal["max_completion_tokens", "max_tokens"] = "max_tokens"

    @property
    def host(self) -> str:
        """The address without path and credentials, for messages."""
        return urlsplit(self.base_url).netloc.rpartition("@")[2]

    def refusal(self, status: int, headers: Mapping[str, str], body: object) -> ModelError:
        """Return our error for a reply with an HTTP error status."""
        reason, code = _reason(body)
        said = f"{self.name}: {self.host} said {status}: {self._clean(reason)}"
        if status in {401, 403}:
            return ModelAuthError(f"{said}; check {self.key_name} and what it may do")
        if status == 429 and code == "insufficient_quota":
            return ModelRejected(f"{said}; the account has no credit left: add some or use another model")
        if status == 429:
            return RateLimited(f"{said}; lower the concurrency or wait", retry_after=retry_after(headers))
        if too := self._too_much(status, said, f"{code} {reason}"):
            return too
        if status >= 500 or status in _PASSING:
            return ModelUnavailable(f"{said}; try again later", retry_after=retry_after(headers))
        return ModelRejected(f"{said}; check the model's name and the size of the request")

    @staticmethod
    def _too_much(status: int, said: str, reason: str) -> ModelRejected | None:
        """Return our error for a request that another form of it would mend."""
        if status == 413 or (status <= 500 and _TOO_LONG.search(reason)):
            return PromptTooLong(f"{said}; ask about less, or use a model with a larger window")
        if (_NO_TOOLS if status >= 500 else _OF_TOOLS).search(reason):
            return ToolsRefused(f"{said}; switch tools off with --tool-calling off")
        return None

    def unreachable(self, error: BaseException) -> ModelUnreachable:
        """Return our error for a connection that failed or broke; it names the first cause."""
        connected = not isinstance(error, _NO_CONNECTION)
        while cause := error.__cause__:
            error = cause
            connected &= not isinstance(error, _NO_CONNECTION)
        reason = self._clean(str(error)) or type(error).__name__
        unreachable = ModelUnreachable(
            f"{self.name}: no connection to {self.host}: {reason}; check the address and network"
        )
        unreachable.may_be_charged = connected
        return unreachable

    def failed_midway(self, body: object) -> ModelError:
        """Return our error for a reply that had begun and ended with an error."""
        reason, code = _reason(body)
        said = f"{self.name}: {self.host} broke its reply off: {self._clean(reason)}"
        if "rate_limit" in str(code) or code in _BUSY:
            return RateLimited(f"{said}; lower the concurrency or wait")
        if "invalid_request" in str(code) or code in _REFUSED:
            return ModelRejected(said)
        return ModelUnavailable(f"{said}; try again later")

    async def streamed(self, stream: SentEvents, reply: StreamedBody, clock: asyncio.Timeout) -> bytes:
        """Return the body of a streamed reply, read to its end; `clock` starts anew with each piece.

        Raise `ModelReplyInvalid` for what is no reply, `ModelUnavailable` if the stream ends before the reply does.
        """
        loop = asyncio.get_running_loop()
        async with stream:
            try:
                async for data in stream:
                    clock.reschedule(loop.time() + self.seconds)
                    reply.take(data)
            except (msgspec.ValidationError, json.JSONDecodeError, UnicodeDecodeError) as error:
                raise self.invalid(b"", error) from None
        if not reply.complete:
            raise ModelUnavailable(f"{self.name}: {self.host} ended its stream before the reply's end; try again later")
        return json.dumps(reply.body()).encode()

    def late(self) -> ModelTimeout:
        """Return our error for an attempt that took all its time."""
        return ModelTimeout(
            f"{self.name}: no reply from {self.host} within {self.seconds:g} s; allow more time or ask for less"
        )

    def decoded(self, body: bytes, shape: type[Shape]) -> Shape:
        """Read a reply's body as `shape`. Raise `ModelReplyInvalid`."""
        try:
            return msgspec.json.decode(body, type=shape)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self.invalid(body, error) from None

    def invalid(self, body: bytes, error: Exception) -> ModelReplyInvalid:
        """Return our error for a reply's body that is not what the interface promises."""
        start = self._clean(body[:_DETAIL_LIMIT].decode(errors="replace"))
        return ModelReplyInvalid(
            f"{self.name}: {self.host} sent no valid reply ({error}): {start!r}; is this the right address?"
        )

    def with_text(self, completion: Completion) -> Completion:
        """Return `completion` if it says anything; raise `ModelReplyInvalid`, or `ModelRejected` for ever the same.

        One that an error ended, as OpenRouter says it, is a `ModelUnavailable`.
        """
        error: ModelError
        if completion.finish_reason == "error":
            error = ModelUnavailable(f"{self.name}: {self.host} broke its reply off; try again later")
            error.usage = completion.usage
            raise error
        if completion.text or completion.tool_calls:
            return completion
        if why := _SILENT.get(completion.finish_reason):
            error = ModelRejected(f"{self.name}: an empty reply: {why}")
            error.empty_for = completion.finish_reason
        else:
            error = ModelReplyInvalid(f"{self.name}: an empty reply ({completion.finish_reason}); try again")
        error.usage = completion.usage
        raise error

    def _clean(self, text: str) -> str:
        """Return `text` on one line, cut, and without the key, which some servers echo."""
        if self.api_key and len(self.api_key) >= _SECRET_LENGTH:
            text = text.replace(self.api_key, "***")
        text = " ".join(text.split())
        return text if len(text) <= _DETAIL_LIMIT else f"{text[:_DETAIL_LIMIT]}…"


def is_address(text: str) -> bool:
    """Tell whether `text` can be the address of an HTTP server."""
    try:
        url, port = httpx2.URL(text), urlsplit(text).port
    except (httpx2.InvalidURL, ValueError):
        return False
    return url.scheme in {"http", "https"} and bool(url.host) and port != 0 and not set(text) & set(" \t")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that `retry-after-ms` or `retry-after` (seconds or an HTTP date) asks to wait."""
    for header, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers[header]) * unit
        except (KeyError, ValueError):
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        date = email.utils.parsedate_to_datetime(headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return max(0.0, date.timestamp() - time.time())


class _ErrorBody(msgspec.Struct):
    message: str = ""
    code: str | int | None = None
    type: str | None = None
    error: _ErrorBody | None = None


def _reason(body: object) -> tuple[str, str | int | None]:
    """Return the message and the code of an error's body, which one SDK unwraps and the other doesn't."""
    try:
        found = msgspec.convert(body, _ErrorBody)
    except msgspec.ValidationError:
        return str(body or "no reason given"), None
    found = found.error or found
    return found.message or "no reason given", found.code or found.type
