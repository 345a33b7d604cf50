"""A guest without a container: the other end of an `Endpoint`, driven by a test."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from rlm_kernel.guest.wire import Channel, Message, Wire
from rlm_kernel.stream import Endpoint


class Guest:
    """Speaks the stream's protocol over a real socket and says what the test tells it to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.wire = Wire()
        self._reader = reader
        self._writer = writer
        self._received: list[Message] = []

    async def next(self, channel: Channel) -> Any:
        """Return the next JSON message of `channel`."""
        return json.loads(await self._payload(channel))

    async def bytes_of(self, channel: Channel, size: int) -> AsyncIterator[bytes]:
        """Yield payloads of `channel` until there were `size` bytes."""
        while size > 0:
            payload = await self._payload(channel)
            size -= len(payload)
            yield payload

    async def _payload(self, channel: Channel) -> bytes:
        while True:
            for index, message in enumerate(self._received):
                if message.channel is channel:
                    del self._received[index]
                    self.wire.release(message)
                    await self.flush()
                    return message.payload
            data = await self._reader.read(65536)
            if not data:
                raise EOFError
            self._received += self.wire.receive(data)

    async def read_some(self) -> bool:
        """Take what comes next; True at the end of the stream."""
        data = await self._reader.read(65536)
        self._received += self.wire.receive(data)
        return not data

    async def say(self, channel: Channel, content: Any) -> None:
        """Send one message."""
        self.wire.send(channel, content if isinstance(content, bytes) else json.dumps(content).encode())
        await self.flush()

    async def say_all(self, channel: Channel, kind: str, parent: str, **content: Any) -> None:
        """Send one Jupyter message and read what the host gives back until all of it is on its way."""
        await self.jupyter(channel, kind, parent, **content)
        while self.wire.queued(channel):
            self._received += self.wire.receive(await self._reader.read(65536))
            await self.flush()

    async def flush(self) -> None:
        """Write what the windows allow."""
        await self.raw(self.wire.data_to_send())

    async def raw(self, data: bytes) -> None:
        """Write bytes as they are."""
        self._writer.write(data)
        await self._writer.drain()

    async def ended(self) -> bool:
        """Read to the end of the stream; True once the host has closed it."""
        try:
            while await self._reader.read(65536):
                pass
        except ConnectionResetError:
            return True
        return True

    def half_close(self) -> None:
        """End what is written; what comes can still be read."""
        self._writer.write_eof()

    def end_reading(self) -> None:
        """Let the other end's writes fail."""
        self._writer.get_extra_info("socket").shutdown(socket.SHUT_RD)

    async def close(self) -> None:
        """Close this end."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except (ConnectionResetError, BrokenPipeError):
            return

    async def jupyter(self, channel: Channel, kind: str, parent: str, **content: Any) -> None:
        """Send one Jupyter message that belongs to the request `parent`."""
        await self.say(
            channel,
            {
                "header": {"msg_id": f"guest-{kind}", "msg_type": kind},
                "parent_header": {"msg_id": parent},
                "metadata": {},
                "content": content,
            },
        )


@asynccontextmanager
async def guest_and_endpoint(
    unwrap: Callable[[bytes], bytes] | None = None,
) -> AsyncIterator[tuple[Guest, Endpoint]]:
    """Join a `Guest` and an `Endpoint` by a socket pair."""
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    _, endpoint = await loop.create_connection(lambda: Endpoint(unwrap), sock=ours)
    reader, writer = await asyncio.open_connection(sock=theirs)
    guest = Guest(reader, writer)
    try:
        yield guest, endpoint
    finally:
        endpoint.close()
        await guest.close()
