"""A proxy in front of a container engine that changes what containers are created with, as a broken engine would."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

ENGINE_SOCKET = "/var/run/docker.sock"
REFUSAL = b'HTTP/1.1 500 Error\r\nContent-Type: application/json\r\nContent-Length: 21\r\n\r\n{"message": "broken"}'


@asynccontextmanager
async def weakened_engine(
    socket: Path, host_config: dict[str, Any], *, refuses: str = "nothing", delays: str = "nothing", seconds: float = 0
) -> AsyncIterator[str]:
    """Serve at `socket`; each create request gets `host_config` over its own. Yield the address for DOCKER_HOST.

    Requests that begin with `refuses` are answered with an error and don't reach the engine; those that begin with
    `delays` reach it so many seconds later.
    """
    serving: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            serving.add(task)
        engine_reader, engine_writer = await asyncio.open_unix_connection(ENGINE_SOCKET)
        try:
            request = await _request(reader, host_config)
            if request.startswith(refuses.encode()):
                writer.write(REFUSAL)
                return
            if request.startswith(delays.encode()):
                await asyncio.sleep(seconds)
            engine_writer.write(request)
            while data := await engine_reader.read(65536):
                writer.write(data)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            engine_writer.close()
            writer.close()

    server = await asyncio.start_unix_server(serve, socket)
    async with server:
        yield f"unix://{socket}"
    for task in serving:
        task.cancel()
    await asyncio.gather(*serving, return_exceptions=True)


async def _request(reader: asyncio.StreamReader, host_config: dict[str, Any]) -> bytes:
    """Read one request and return it as the engine is to have it: weakened, and the connection's only one."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    if first.startswith("POST") and "/containers/create" in first:
        config = json.loads(body)
        config["HostConfig"] |= host_config
        config["NetworkDisabled"] = False
        body = json.dumps(config).encode()
    headers |= {"content-length": str(len(body)), "connection": "close"}
    text = "\r\n".join([first, *(f"{name}: {value}" for name, value in headers.items())])
    return text.encode("latin-1") + b"\r\n\r\n" + body
