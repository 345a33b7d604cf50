"""The carrier over the engine's own connection: the container's stdin and stdout as one byte stream."""

from __future__ import annotations

import os
import socket

import docker

from rlm_kernel.errors import SandboxRefused
from rlm_kernel.guest.wire import WireError

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


def check_attachable(client: docker.APIClient) -> None:
    """Raise `SandboxRefused` if the connection to the engine can't become a plain socket."""
    if client.base_url.startswith(("https://", "http+docker://ssh")):
        raise SandboxRefused(
            "the attach carrier can't use a TLS or ssh connection to the engine yet: "
            "forward the engine's socket to this host and set DOCKER_HOST to it"
        )


def attached_socket(container: str, client: docker.APIClient) -> socket.socket:
    """Return a socket of our own on the container's stdin and stdout; the container must not run yet. It blocks."""
    raw = client.attach_socket(container, params={"stdin": 1, "stdout": 1, "stream": 1, "logs": 0})
    try:
        connection = socket.socket(fileno=os.dup(raw.fileno()))
    finally:
        raw._sock.close()  # closing the file over a socket leaves the socket open
        raw.close()
    connection.setblocking(False)
    return connection
