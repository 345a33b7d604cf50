"""A local HTTP server that speaks OpenAI chat completions and Anthropic messages, with failures on order.

Run as a program it answers every request after `--delay` seconds, prints its address, and ends with its stdin; with
`--faults` as `tests.support.faults.Faulty`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

from tests.support.sse import anthropic_events, openai_events

INPUT_TOKENS = 12
CACHED_TOKENS = 4
OUTPUT_TOKENS = 5

Fate = Literal["whole", "stalled", "stalled_midway", "reset", "truncated", "ended_early", "error_midway"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the server does with one request. `body` replaces the well-formed one; None as `text` leaves it out.

    `message` are further fields of a chat completion's message, `blocks` those that follow the text at Anthropic.
    """

    text: str | None = "ok"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    finish_reason: str | None = None
    delay: float = 0.0
    fate: Fate = "whole"
    input_tokens: int = INPUT_TOKENS
    message: Mapping[str, Any] = field(default_factory=dict)
    blocks: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it arrived; `raw` is its body as bytes."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]
    raw: bytes = b""


class ProviderServer:
    """Answers with `replies`, one per request, then with what `answer` returns for a request's body, or with `always`.

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
        self.always = Reply()
        self._answer = answer or (lambda body: self.always)

    @asynccontextmanager
    async def run(self, port: int = 0) -> AsyncIterator[ProviderServer]:
        """Serve on `port` of 127.0.0.1, a free one if it is 0, until the block ends."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._handle)
        app.router.add_post("/v1/messages", self._handle)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1)
        await runner.setup()
        sock = socket.create_server(("127.0.0.1", port), backlog=1024)
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
        self.requests.append(Received(request.path, request.headers, body, await request.read()))
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
        if content.content_type == "text/event-stream":
            return await _stream(request, reply, content)
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


async def _stream(request: web.Request, reply: Reply, content: web.Response) -> web.StreamResponse:
    """Send the events one by one, up to the middle where that is the stream's fate."""
    assert isinstance(content.body, bytes)
    events = [event + b"\n\n" for event in content.body.split(b"\n\n") if event]
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for event in events if reply.fate == "whole" else events[: len(events) // 2]:
        await response.write(event)
        await asyncio.sleep(reply.delay)
    if reply.fate == "stalled_midway":
        await asyncio.get_running_loop().create_future()
    if reply.fate == "truncated" and request.transport is not None:
        request.transport.abort()
    if reply.fate == "error_midway":
        error = {"type": "overloaded_error", "message": "too busy"}
        await response.write(f"event: error\ndata: {json.dumps({'type': 'error', 'error': error})}\n\n".encode())
    await response.write_eof()
    return response


def _well_formed(path: str, body: dict[str, Any], reply: Reply) -> web.Response:
    if reply.body is not None:
        return web.Response(body=reply.body, status=reply.status, headers={"Content-Type": "application/json"})
    is_openai = path.endswith("/chat/completions")
    shape = _openai if is_openai else _anthropic
    if body.get("stream") and reply.status == 200:
        events = (openai_events if is_openai else anthropic_events)(shape(body, reply))
        return web.Response(body=b"".join(events), headers={"Content-Type": "text/event-stream"})
    response = web.json_response(shape(body, reply), status=reply.status, headers=reply.headers)
    assert isinstance(response.body, bytes)
    return response


def _openai(body: dict[str, Any], reply: Reply) -> dict[str, Any]:
    if reply.status >= 400:
        return {"error": {"message": reply.text, "type": "scripted", "param": None, "code": None}}
    message = {"role": "assistant", "content": reply.text, "refusal": None, **reply.message}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": f"{body['model']}-2026-01-01",
        "choices": [
            {
                "index": 0,
                "finish_reason": reply.finish_reason or ("tool_calls" if "tool_calls" in message else "stop"),
                "message": message,
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": reply.input_tokens,
            "completion_tokens": OUTPUT_TOKENS,
            "total_tokens": reply.input_tokens + OUTPUT_TOKENS,
            "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS},
        },
    }


def _anthropic(body: dict[str, Any], reply: Reply) -> dict[str, Any]:
    if reply.status >= 400:
        return {"type": "error", "error": {"type": "scripted", "message": reply.text}}
    calls = any(block["type"] == "tool_use" for block in reply.blocks)
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": f"{body['model']}-20260101",
        "content": [*([] if reply.text is None else [{"type": "text", "text": reply.text}]), *reply.blocks],
        "stop_reason": reply.finish_reason or ("tool_use" if calls else "end_turn"),
        "stop_sequence": None,
        "usage": {
            "input_tokens": reply.input_tokens - CACHED_TOKENS,
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


@contextmanager
def provider_process(*options: str) -> Iterator[str]:
    """Run this program with `options`; yield its address. It ends with the block, and with this process."""
    command = [sys.executable, "-m", "tests.support.provider_server", *options]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def _main() -> None:
    from tests.support.faults import Faulty  # noqa: PLC0415 - which needs this module

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--faults", action="store_true")
    options = parser.parse_args()
    asyncio.run(_serve(Faulty(options.delay) if options.faults else lambda body: Reply(delay=options.delay)))


if __name__ == "__main__":
    _main()
