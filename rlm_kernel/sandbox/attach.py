"""The carrier over the engine's own connection: the container's stdin and stdout as one byte stream."""

from __future__ import annotations

import asyncio
import ssl
from typing import cast
from urllib.parse import urlsplit

from rlm_kernel.errors import EngineTimeout, EngineUnavailable, SandboxError, SandboxRefused
from rlm_kernel.guest.wire import WireError
from rlm_kernel.sandbox.engine import CALL_DEADLINE, EngineClient
from rlm_kernel.stream import Endpoint

HEAD_LIMIT = 65536
HEADER_SIZE = 8
STDOUT = 1


class Demultiplexer:
    """Takes off the engine's headers (stream: u8, 3 zero bytes, length: u32, network order) around stdout."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._left = 0

    def feed(self, data: bytes) -> bytes:
        """Return the guest's bytes among `data`. Raise `WireError` on anything but stdout."""
        parts: list[bytes] = []
        position = 0
        while position < len(data):
            if self._left:
                part = data[position : position + self._left]
                parts.append(part)
                self._left -= len(part)
                position += len(part)
                continue
            missing = HEADER_SIZE - len(self._header)
            self._header += data[position : position + missing]
            position += missing
            if len(self._header) == HEADER_SIZE:
                if self._header[0] != STDOUT:
                    raise WireError(f"bytes on the container's stream {self._header[0]}")
                self._left = int.from_bytes(self._header[4:], "big")
                self._header.clear()
        return b"".join(parts)


async def attach(client: EngineClient, container: str, endpoint: Endpoint) -> None:
    """Join `endpoint` to the container's stdin and stdout, over a connection of our own; it must not run yet.

    Raise `EngineTimeout`, `EngineUnavailable`, or `SandboxError` if the engine refuses; nothing is left open then.
    """
    upgrade = _Upgrade(f"/v{client.api_version}/containers/{container}/attach?stdin=1&stdout=1&stream=1", endpoint)
    try:
        async with asyncio.timeout(CALL_DEADLINE):
            await _open(client, upgrade)
            await upgrade.done
    except TimeoutError:
        raise EngineTimeout(f"the engine did not attach to the container within {CALL_DEADLINE:.0f} s") from None
    except OSError as error:
        raise EngineUnavailable(f"no connection to the engine for the container's stream: {error}") from None
    finally:
        upgrade.give_up()


async def _open(client: EngineClient, upgrade: _Upgrade) -> None:
    loop = asyncio.get_running_loop()
    where = urlsplit(client.address)
    if where.scheme == "http+unix":
        await loop.create_unix_connection(lambda: upgrade, where.path)
    elif where.scheme in ("http", "https") and where.hostname and where.port:
        tls = _tls(client) if where.scheme == "https" else None
        await loop.create_connection(lambda: upgrade, where.hostname, where.port, ssl=tls)
    else:
        raise SandboxRefused(f"the attach carrier can't go to {client.address}: it goes to unix://, tcp:// and ssh://")


def _tls(client: EngineClient) -> ssl.SSLContext:
    """Return what the library does for the same client."""
    tls = ssl.create_default_context(cafile=client.verify if isinstance(client.verify, str) else None)
    if not client.verify:
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    if client.cert:
        tls.load_cert_chain(*client.cert)
    return tls


class _Upgrade(asyncio.Protocol):
    """Asks the engine to make a connection a container's stream, then leaves the connection to `endpoint`.

    `done` is so then, or has the reason why not.
    """

    def __init__(self, path: str, endpoint: Endpoint) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._path = path
        self._endpoint = endpoint
        self._head = b""
        self._transport: asyncio.Transport | None = None

    def give_up(self) -> None:
        """Close the connection, unless it is `endpoint`'s."""
        self.done.cancel()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        headers = "Host: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0"
        self._transport.write(f"POST {self._path} HTTP/1.1\r\n{headers}\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if self._transport is None or not (end or len(head) > HEAD_LIMIT):
            return
        status = head.split(maxsplit=2)[1:2]
        if status not in ([b"101"], [b"200"]):
            said = (head.partition(b"\r\n")[0] + b" " + rest)[:500].decode(errors="replace")
            self._fail(SandboxError(f"the engine refused to attach to the container: {said}"))
            return
        transport, self._transport = self._transport, None
        transport.set_protocol(self._endpoint)
        self._endpoint.connection_made(transport)
        if rest:
            self._endpoint.feed(rest)
        if not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionResetError("the engine closed it"))

    def _fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)
        if self._transport is not None:
            self._transport.abort()
