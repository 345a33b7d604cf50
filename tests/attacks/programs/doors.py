# ruff: noqa: T201
"""Runs in a cell: opens sockets of every family and calls the kernel in other machines' ways; prints what worked."""

import ctypes
import json
import mmap
import os
import platform
import socket
import subprocess
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
INT_80 = bytes.fromhex("53 89f8 89f3 4189c8 89d1 4489c2 cd80 5b c3")
"""Machine code: a 32-bit system call with its number and three arguments from a 64-bit function's."""
SOCKET_32, GETPID_32, SOCKET_X32, IO_URING_SETUP = 359, 20, 0x40000000 + 41, 425


def families() -> list[int]:
    """Return the families of which a socket can be opened, of any kind."""
    found = []
    for family in range(60):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
            try:
                socket.socket(family, kind).close()
            except OSError:
                continue
            found.append(family)
            break
    return found


def as_32_bit(number: int, *arguments: int) -> bool:
    """Tell whether a system call of a 32-bit program works; in a child, as machines without these end it."""
    child = os.fork()
    if child == 0:
        memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        memory.write(INT_80)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        call = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_int] * 4)(address)
        os._exit(0 if call(number, *arguments) >= 0 else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def works(number: int, *arguments: int) -> bool:
    """Tell whether a system call gets past the filters: whatever it ends with, it is not refused."""
    ctypes.set_errno(0)
    return int(LIBC.syscall(ctypes.c_long(number), *arguments)) >= 0 or ctypes.get_errno() not in (1, 38)


AGAIN = "import socket\ntry: socket.socket(40, 1); print('worked')\nexcept OSError: print('refused')"
x86 = platform.machine() == "x86_64"
print(
    json.dumps(
        {
            "families": families(),
            "io_uring": works(IO_URING_SETUP, 1, 0),
            "32 bit": x86 and (as_32_bit(SOCKET_32, 40, 1, 0) or as_32_bit(GETPID_32, 0, 0, 0)),
            "x32": x86 and works(SOCKET_X32, 40, 1, 0),
            "in a new program": subprocess.run([sys.executable, "-c", AGAIN], capture_output=True, text=True).stdout,  # noqa: PLW1510
        }
    )
)
