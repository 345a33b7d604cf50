"""A `Wire` over non-blocking file descriptors: the stream to the host, and the link between relay and kernel."""

import os

from .wire import Channel, Message, Wire

READ_SIZE = 256 * 1024


class Framed:
    """One end of a wire, read and written as far as is possible without waiting."""

    def __init__(self, read_fd: int, write_fd: int, accepts: frozenset[Channel]) -> None:
        self.read_fd, self.write_fd = read_fd, write_fd
        self.wire = Wire(accepts)
        self._pending = memoryview(b"")

    def read(self) -> list[Message]:
        """Return the messages that have arrived. Raise `EOFError` at the end, `WireError` on nonsense."""
        try:
            data = os.read(self.read_fd, READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError as error:
            raise EOFError from error
        if not data:
            raise EOFError
        return self.wire.receive(data)

    def write(self) -> bool:
        """Write what the windows and the descriptor take; return whether some waits for the descriptor."""
        while True:
            if not self._pending:
                self._pending = memoryview(self.wire.data_to_send(READ_SIZE))
                if not self._pending:
                    return False
            try:
                self._pending = self._pending[os.write(self.write_fd, self._pending) :]
            except (BlockingIOError, InterruptedError):
                return True
            except OSError as error:
                raise EOFError from error
