"""The kernel's process: started, signalled and ended by the relay.

Imports little, as the kernel is started before the relay has loaded the rest of itself.
"""

import contextlib
import os
import signal
import socket
import sys

from . import places

KERNEL_OOM_SCORE = "1000"


class KernelProcess:
    """One kernel process in a session and process group of its own.

    `link` is this end of the socket pair it was started with, `address` the prefix of its five ipc sockets.
    """

    __slots__ = ("address", "generation", "key", "link", "pid")

    def __init__(self, generation: int) -> None:
        """Start the process. Raise `OSError` when the limits of this container don't allow it."""
        self.generation = generation
        self.key = os.urandom(32).hex()
        # not to be guessed by the cells of the kernel before it
        self.address = f"{places.PRIVATE}/kernel-{generation}-{os.urandom(4).hex()}"
        connection_file = f"{self.address}.json"
        self._write_connection_file(connection_file)
        self.link, other = socket.socketpair()
        with other:
            self.link.setblocking(False)
            other.set_inheritable(True)
            env = {name: value for name, value in os.environ.items() if name not in ("RLM_CARRIER", "RLM_LEASE")}
            env |= {
                "RLM_LINK": str(other.fileno()),
                "RLM_GENERATION": str(generation),
                "RLM_CONNECTION_FILE": connection_file,
                "PYTHONHASHSEED": env.get("RLM_SEED", "random"),  # the kernel's alone: cells know it
                "IPYTHONDIR": f"{places.PRIVATE}/ipython",
                "JUPYTER_RUNTIME_DIR": places.PRIVATE,
            }
            argv = [sys.executable, "-s", "-P", "-m", f"{__package__}.kernel"]
            self.pid = os.posix_spawn(sys.executable, argv, env, setsid=True, setsigdef=(signal.SIGINT, signal.SIGPIPE))
        self._be_killed_first()

    def interrupt(self) -> None:
        """Send SIGINT to the kernel's process alone, not to what it started, and let it go on if it was stopped."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGINT)
            os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Send SIGKILL to the kernel's process alone."""
        _kill(self.pid)

    def _write_connection_file(self, path: str) -> None:
        ports = ",".join(
            f'"{name}_port":{port}' for port, name in enumerate(("shell", "iopub", "stdin", "control", "hb"), 1)
        )
        with open(path, "w", encoding="ascii", opener=_private) as file:
            file.write(
                f'{{"transport":"ipc","ip":"{self.address}",{ports},"key":"{self.key}","signature_scheme":"hmac-sha256"}}'
            )

    def _be_killed_first(self) -> None:
        """Make the system choose the kernel, and all it starts, when memory is short."""
        with contextlib.suppress(OSError), open(f"/proc/{self.pid}/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(KERNEL_OOM_SCORE)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_EXCL, mode=0o600)  # never through a link, or into a pipe, that a cell left here


def kill_all(kernel_pid: int) -> None:
    """Kill every process but this one, and wait until they are gone.

    Where this is not PID 1, kill the kernel's process group only.
    """
    while True:
        if os.getpid() == 1:
            _kill(-1)
            pid = -1
        else:
            _kill(-kernel_pid)
            pid = kernel_pid
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            return


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
