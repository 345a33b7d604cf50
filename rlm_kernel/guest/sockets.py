"""The relay's side of one kernel: its process, the link, and its ZMQ sockets."""

import contextlib
import json
from typing import Any

import zmq

from .framed import Framed
from .messages import KernelMessage, from_kernel, to_kernel
from .process import KernelProcess
from .wire import MIB, Channel

QUEUE_LENGTH = 100_000
"""Messages that may wait between kernel and relay; libzmq's own 1,000 are lost silently when a cell displays much."""

MESSAGE_PART_LIMIT = 64 * MIB
PROBE = "relay-probe"


class KernelSockets:
    """A kernel process and every channel to it.

    It is warm once it listens, answers on shell and its output arrives here, and ready when `context` is bound too.
    """

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", process: KernelProcess) -> None:
        self.process = process
        self.link = Framed(process.link.fileno(), process.link.fileno(), frozenset({Channel.CONTROL, Channel.SUBCALL}))
        self.shell = context.socket(zmq.DEALER)
        self.iopub = context.socket(zmq.SUB)
        for socket in (self.shell, self.iopub):
            socket.linger = 0
            socket.rcvhwm = socket.sndhwm = QUEUE_LENGTH
            socket.maxmsgsize = MESSAGE_PART_LIMIT
        # libzmq hangs up for good on a part over the limit, without a word to the reader
        self.ends = [socket.get_monitor_socket(zmq.EVENT_DISCONNECTED) for socket in (self.shell, self.iopub)]
        self.answered = self.subscribed = False
        self.bound: dict[str, Any] | None = None
        self.warm = self.ready = self.connected = False
        self.link_open = True

    def connect(self) -> None:
        """Connect to the kernel, which listens by now, and ask for a sign of life on both channels."""
        self.connected = True
        self.iopub.subscribe(b"")
        self.iopub.connect(f"ipc://{self.process.address}-2")
        self.shell.connect(f"ipc://{self.process.address}-1")
        header = {
            "msg_id": PROBE,
            "msg_type": "kernel_info_request",
            "session": "relay",
            "username": "",
            "version": "5.3",
        }
        self.send({"header": header, "parent_header": {}, "metadata": {}, "content": {}})

    def send(self, message: dict[str, Any]) -> None:
        """Send a message to the kernel's shell. Raise `KeyError` when a part is missing."""
        with contextlib.suppress(
            zmq.Again
        ):  # a kernel that reads nothing for 100,000 messages; it never was asked so much
            self.shell.send_multipart(to_kernel(message, self.process.key.encode()), zmq.NOBLOCK)

    def tell(self, message: dict[str, Any]) -> None:
        """Send a control message over the link."""
        self.link.wire.send(Channel.CONTROL, json.dumps(message).encode())

    def receive(self, socket: "zmq.Socket[bytes]") -> KernelMessage | None:
        """Return the next message that is for the host, or None when there is none now."""
        while True:
            try:
                message = from_kernel(socket.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return None
            if message is None:
                continue
            if message.type == "iopub_welcome":
                self.subscribed = True
            elif message.cell == PROBE:
                self.answered = self.answered or socket is self.shell
            elif self.ready:
                return message

    def drop_link(self) -> None:
        """Give up on a kernel whose link ended or carries nonsense, or that a socket lost: it is no use any more."""
        self.link_open = False
        self.process.kill()

    def close(self) -> None:
        """Close every channel; the process is not touched."""
        for socket, end in zip((self.shell, self.iopub), self.ends, strict=True):
            socket.disable_monitor()
            end.close()
            socket.close()
        self.process.link.close()
