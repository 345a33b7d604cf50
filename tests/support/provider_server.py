"""A local HTTP server that speaks OpenAI chat completions and Anthropic messages, with failures on order.

Run as a program it answers every request after `--delay` seconds, prints its address, and ends with its stdin; with
`--faults` as `tests.support.faults.Faulty`.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

INPUT_TOKENS = 12
CACHED_TOKENS = 4
OUTPUT_TOKENS = 5

Fate = Literal["whole", "stalled", "stalled_midway", "reset", "truncated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the server does with one request. `body` replaces the well-formed one; None as `text` leaves it out."""

    text: str | None = "ok"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    finish_reason: str | None = None
    delay: float = 0.0
    fate: Fate = "whole"


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it arrived."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


class ProviderServer:
    """Answers with `replies`, one per request, then with what `answer` returns for a request's body.

    While `hold` is an event that is not set, requests wait for it. `arrived` is set by every request, `disconnected`
    when a client goes before its reply.
    """

    def __init__(self, answer: Callable[[dict[str, Any]], Reply] | None = None) -> None:
        self.url = ""
        self.requests: list[Received] = []
        self.replies: deque[Reply] = deque()
        self.hold: asyncio.Event | None = None
        self.arrived = asyncio.Event()
        self.disconnected = asyncio.Event()
        self._open = 0
        self._changed = asyncio.Condition()
        self._answer = answer or (lambda body: Reply())

    @asynccontextmanager
    async def run(self) -> AsyncIterator[ProviderServer]:
        """Serve on a free port of 127.0.0.1 until the block ends."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._handle)
        app.router.add_post("/v1/messages", self._handle)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1)
        await runner.setup()
        sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
        try:
            await web.SockSite(runner, sock).start()
            self.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
            yield self
        finally:
            await runner.cleanup()

    async def reached(self, count: int) -> None:
        """Wait until `count` requests are open at once."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._open >= count)

    async def emptied(self) -> None:
        """Wait until no request is open."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._open == 0)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(Received(request.path, request.headers, body))
        reply = self.replies.popleft() if self.replies else self._answer(body)
        self.arrived.set()
        self._open += 1
        await self._tell()
        try:
            if self.hold is not None:
                await self.hold.wait()
            await asyncio.sleep(reply.delay)
            return await self._send(request, reply, _well_formed(request.path, body, reply))
        except asyncio.CancelledError:
            self.disconnected.set()
            raise
        finally:
            self._open -= 1
            await asyncio.shield(self._tell())

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    @staticmethod
    async def _send(request: web.Request, reply: Reply, content: web.Response) -> web.StreamResponse:
        transport = request.transport
        assert transport is not None
        if reply.fate == "stalled":
            await asyncio.get_running_loop().create_future()
        if reply.fate == "reset":
            transport.abort()
        if reply.fate in {"truncated", "stalled_midway"}:
            body = content.body
            assert isinstance(body, bytes)
            partial = web.StreamResponse(status=reply.status, headers={"Content-Length": str(len(body))})
            partial.content_type = "application/json"
            await partial.prepare(request)
            await partial.write(body[: len(body) // 2])
            if reply.fate == "stalled_midway":
                await asyncio.get_running_loop().create_future()
            transport.close()
            return partial
        return content


def _well_formed(path: str, body: dict[str, Any], reply: Reply) -> web.Response:
    if reply.body is not None:
        return web.Response(body=reply.body, status=reply.status, headers={"Content-Type": "application/json"})
    shape = _openai if path.endswith("/chat/completions") else _anthropic
    response = web.json_response(shape(body, reply), status=reply.status, headers=reply.headers)
    assert isinstance(response.body, bytes)
    return response


def _openai(body: dict[str, Any], reply: Reply) -> dict[str, Any]:
    if reply.status >= 400:
        return {"error": {"message": reply.text, "type": "scripted", "param": None, "code": None}}
    message = {"role": "assistant", "content": reply.text, "refusal": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": f"{body['model']}-2026-01-01",
        "choices": [{"index": 0, "finish_reason": reply.finish_reason or "stop", "message": message, "logprobs": None}],
        "usage": {
            "prompt_tokens": INPUT_TOKENS,
            "completion_tokens": OUTPUT_TOKENS,
            "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
            "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS},
        },
    }


def _anthropic(body: dict[str, Any], reply: Reply) -> dict[str, Any]:
    if reply.status >= 400:
        return {"type": "error", "error": {"type": "scripted", "message": reply.text}}
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": f"{body['model']}-20260101",
        "content": [] if reply.text is None else [{"type": "text", "text": reply.text}],
        "stop_reason": reply.finish_reason or "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": INPUT_TOKENS - CACHED_TOKENS,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": CACHED_TOKENS,
            "output_tokens": OUTPUT_TOKENS,
        },
    }


async def _serve(answer: Callable[[dict[str, Any]], Reply]) -> None:
    async with ProviderServer(answer).run() as server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


def _main() -> None:
    from tests.support.faults import Faulty  # noqa: PLC0415 - which needs this module

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--faults", action="store_true")
    options = parser.parse_args()
    asyncio.run(_serve(Faulty(options.delay) if options.faults else lambda body: Reply(delay=options.delay)))


if __name__ == "__main__":
    _main()
