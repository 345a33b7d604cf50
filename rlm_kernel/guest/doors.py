"""Doors of the system's kernel that containers leave open, and that code in cells has no use for.

A vsock socket reaches the hypervisor from any network namespace, and engines' own filters let it through or once did.
AF_ALG and io_uring have been ways to root. 32-bit system calls pass by what a filter says of 64-bit ones.
"""

import ctypes
import errno
import os
import platform
import socket
import struct

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, IF_EQUAL, IF_AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
NUMBER, MACHINE, FIRST_ARGUMENT = 0, 4, 16
"""Offsets in the kernel's `struct seccomp_data`."""
ALLOW, REFUSE = 0x7FFF0000, 0x00050000

MACHINES = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
"""The kernel's name of a machine, and its number of the system call `socket`."""
OTHER_NUMBERS = 0x40000000
"""The system calls of x32 on x86-64 begin here."""
IO_URING = range(425, 428)
FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)


def close_doors() -> None:
    """Refuse other sockets than those of `FAMILIES`, io_uring, and other machines' system calls, here and in children.

    Nothing takes this back. Raise `OSError` where the system doesn't do it.
    """
    program = _program(*MACHINES[platform.machine()])
    code = ctypes.create_string_buffer(b"".join(program))
    head = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, head, 0, 0):
        raise OSError(ctypes.get_errno(), f"system calls can't be filtered: {os.strerror(ctypes.get_errno())}")


def _program(machine: int, socket_call: int) -> list[bytes]:
    """Return the filter's instructions; jumps are relative and go forward only."""
    refused = REFUSE | errno.EPERM
    code = [
        _step(LOAD, MACHINE),
        _step(IF_EQUAL, machine, yes=1),
        _step(RETURN, refused),
        _step(LOAD, NUMBER),
        _step(IF_AT_LEAST, OTHER_NUMBERS, no=1),
        _step(RETURN, refused),
    ]
    for number in IO_URING:
        code += [_step(IF_EQUAL, number, no=1), _step(RETURN, refused)]
    code += [_step(IF_EQUAL, socket_call, yes=1), _step(RETURN, ALLOW), _step(LOAD, FIRST_ARGUMENT)]
    for family in FAMILIES:
        code += [_step(IF_EQUAL, family, no=1), _step(RETURN, ALLOW)]
    return [*code, _step(RETURN, refused)]


def _step(what: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("HBBI", what, yes, no, value)
