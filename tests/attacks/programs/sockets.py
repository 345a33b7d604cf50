"""Runs in a cell: forges Jupyter messages on the kernel's own sockets, past everything that cuts or checks."""

import hashlib
import hmac
import json
import threading
from collections.abc import Callable
from typing import Any

import zmq
from ipykernel.kernelapp import IPKernelApp

APP: Any = IPKernelApp.instance()
KERNEL = APP.kernel
PARENT = KERNEL.get_parent()["header"]
IDENTS = KERNEL._parent_ident["shell"]


def header(kind: str, **more: Any) -> bytes:
    """Return a message's header."""
    return json.dumps({"msg_id": "forged", "msg_type": kind, "version": "5.3", **more}).encode()


def parts(head: bytes, parent: bytes, content: bytes, metadata: bytes = b"{}") -> list[bytes]:
    """Return a signed message."""
    digest = hmac.new(KERNEL.session.key, digestmod=hashlib.sha256)
    for part in (head, parent, metadata, content):
        digest.update(part)
    return [b"<IDS|MSG>", digest.hexdigest().encode(), head, parent, metadata, content]


def own() -> bytes:
    """Return the header of the request that this cell is."""
    return json.dumps({"msg_id": PARENT["msg_id"]}).encode()


def publish(message: list[bytes], times: int = 1) -> None:
    """Send on the output's own socket, from the thread that owns it."""

    def send() -> None:
        for _ in range(times):
            APP.iopub_thread.socket.send_multipart([b"topic", *message])

    _in_thread_of(APP.iopub_thread.io_loop, send)


def reply(message: list[bytes]) -> None:
    """Send on the socket of replies, from the thread that owns it."""
    stream = KERNEL.shell_stream
    _in_thread_of(stream.io_loop, lambda: stream.socket.send_multipart([*IDENTS, *message]))


def _in_thread_of(loop: Any, call: Callable[[], None]) -> None:
    done = threading.Event()

    def work() -> None:
        call()
        done.set()

    loop.add_callback(work)
    done.wait(30)


def stranger(name: str, kind: int) -> Any:
    """Connect one more client to one of the kernel's sockets."""
    path = KERNEL.shell_stream.socket.getsockopt(zmq.LAST_ENDPOINT).decode().rpartition("-")[0]
    socket: zmq.Socket[bytes] = zmq.Context().socket(kind)
    socket.connect(f"{path}-{name}")
    return socket
