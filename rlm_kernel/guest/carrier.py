"""The two ways bytes reach the host: the mounted unix socket, or the engine's attach stream."""

import os
import socket

from . import places


class Carrier:
    """The stream's file descriptors, for reading and for writing, once `connect` was called."""

    def __init__(self, read_fd: int = -1, write_fd: int = -1) -> None:
        self.read_fd, self.write_fd = read_fd, write_fd

    def connect(self) -> "Carrier":
        """Join the host. Raise `OSError` when nothing listens."""
        if self.read_fd < 0:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.connect(places.STREAM_SOCKET)
            self.read_fd = self.write_fd = connection.detach()
        os.set_blocking(self.read_fd, False)
        os.set_blocking(self.write_fd, False)
        return self


def open_carrier() -> Carrier:
    """Choose the carrier named by `RLM_CARRIER`; take stdin and stdout away from everything else if it is `attach`."""
    name = os.environ.get("RLM_CARRIER")
    if name == "socket":
        return Carrier()
    if name != "attach":
        raise SystemExit(f"RLM_CARRIER must be 'socket' or 'attach', not {name!r}")
    carrier = Carrier(os.dup(0), os.dup(1))  # dup's copies close on exec
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    return carrier
