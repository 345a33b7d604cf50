"""The filter that every kernel process puts on itself."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import os, socket
from rlm_kernel.guest.doors import close_doors
close_doors()
close_doors()  # once more does no harm
def attempt(*what):
    try:
        socket.socket(*what).close()
    except OSError as error:
        return error.errno
    return 0
print([attempt(family, kind) for family, kind in ((1, 1), (2, 1), (10, 2), (16, 3))], [attempt(38, 5), attempt(40, 1)])
print(socket.socketpair()[0].family == socket.AF_UNIX, flush=True)
if child := os.fork():
    print(os.waitpid(child, 0)[1])
"""


def test_harmless_sockets_stay_and_others_are_refused() -> None:
    """Unix, internet and netlink sockets open; the kernel's cryptography and the hypervisor are refused (EPERM)."""
    ended = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[0] == "[0, 0, 0, 0] [1, 1]"
    assert ended.stdout.splitlines()[1:] == ["True", "0"]
