"""The kernel's end of the link to the relay: one thread owns it, every other thread hands it messages."""

import os
import select
import threading
from collections import deque
from collections.abc import Callable

from .framed import Framed
from .wire import Channel


class Link:
    """Carries messages to and from the relay.

    A message is sent by a thread of its own, so that an interrupt, which reaches the main thread only, never leaves
    half a frame behind.
    """

    def __init__(self, fd: int, handlers: dict[Channel, Callable[[bytes], None]]) -> None:
        """Take over the socket `fd`; `handlers` are called in the link's thread."""
        os.set_inheritable(fd, False)
        os.set_blocking(fd, False)
        self._framed = Framed(fd, fd, frozenset(handlers))
        self._handlers = handlers
        self._outbox: deque[tuple[Channel, bytes]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="rlm-link", daemon=True).start()

    def send(self, channel: Channel, payload: bytes) -> None:
        """Queue a message and return at once."""
        self._outbox.append((channel, payload))
        os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        try:
            self._carry()
        finally:
            os._exit(1)  # the relay is gone or talks nonsense, and with it goes all this process is for

    def _carry(self) -> None:
        framed, poll = self._framed, select.poll()
        poll.register(self._wake, select.POLLIN)
        while True:
            while self._outbox:
                framed.wire.send(*self._outbox.popleft())
            poll.register(framed.read_fd, select.POLLIN | (select.POLLOUT if framed.write() else 0))
            for fd, events in poll.poll():
                if fd == self._wake:
                    os.eventfd_read(self._wake)
                elif events & ~select.POLLOUT:
                    for message in framed.read():
                        self._handlers[message.channel](message.payload)
                        framed.wire.release(message)
