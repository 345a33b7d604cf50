"""A unix socket of this host that leads to an engine behind ssh."""

from __future__ import annotations

import os
import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from rlm_kernel.storage import cache_folder, unfinished_folder

ENGINE_SOCKET = "/var/run/docker.sock"


class Tunnel:
    """One `ssh` process that forwards a socket of ours to the engine's. It blocks.

    It is configured as every `ssh` of this user is, and asks nothing. It ends with this process, however that ends:
    its remote command reads what this process holds open.
    """

    def __init__(self, url: str, deadline: float) -> None:
        """`url` is ssh://[user@]host[:port][/path/of/the/socket]. Raise `OSError` saying what ssh said."""
        self._opened = ExitStack()
        socket = self._opened.enter_context(unfinished_folder(cache_folder())) / "engine"
        self.address = f"unix://{socket}"
        try:
            self._process = subprocess.Popen(  # noqa: S603 - a list of our own, no shell
                _command(url, socket, deadline),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # a Ctrl-C is ours: what it ends is still to be cleaned up through the tunnel
            )
        except OSError:
            self._opened.close()
            raise
        try:
            self._wait(deadline)
        except BaseException:  # a Ctrl-C too may not leave the process
            self.close()
            raise

    def close(self) -> None:
        """End the process; safe to call twice."""
        self._process.terminate()
        self._process.communicate()
        self._opened.close()

    def _wait(self, deadline: float) -> None:
        """Wait until the remote command, which runs once the socket is forwarded, gives back a line."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        alarm = threading.Timer(deadline, self._process.terminate)
        alarm.start()
        try:
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = b""
        finally:
            alarm.cancel()
        if not answer:
            self._process.terminate()
            said = self._process.communicate()[1].decode(errors="replace").strip().splitlines()
            raise OSError(f"ssh said: {said[-1] if said else f'nothing in {deadline:g} s'}")


def _command(url: str, socket: Path, deadline: float) -> list[str]:
    parts = urlsplit(url)
    if not parts.hostname:
        raise OSError(f"{url!r} names no host")
    options = [
        "BatchMode=yes",
        "ControlMaster=no",
        "ControlPath=none",
        "ExitOnForwardFailure=yes",
        "StreamLocalBindUnlink=no",
        f"ConnectTimeout={max(1, int(deadline))}",
        "ServerAliveInterval=15",
    ]
    return [
        *("ssh", "-T", *(f"-o{option}" for option in options)),
        *(("-l", parts.username) if parts.username else ()),
        *(("-p", str(parts.port)) if parts.port else ()),
        *("-L", f"{os.fspath(socket)}:{parts.path.rstrip('/') or ENGINE_SOCKET}", "--", parts.hostname, "cat"),
    ]
