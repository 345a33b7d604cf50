"""Runs as PID 1 of a container in the relay's place, and lies to the host in the way its argument names."""

import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from rlm_guest.carrier import open_carrier  # type: ignore[import-not-found]
from rlm_guest.facts import read_facts  # type: ignore[import-not-found]

CONTROL, SHELL, SUBCALL, IOPUB, CONTEXT = range(5)
HUGE = 10**4000


def frame(channel: int, payload: bytes, flags: int = 0, length: int | None = None) -> bytes:
    """Return a frame; `length` is what its header claims."""
    size = len(payload) if length is None else length
    return size.to_bytes(4, "big") + bytes((channel, flags)) + payload


def control(kind: str, **fields: Any) -> bytes:
    """Return the frame of a control message."""
    return frame(CONTROL, json.dumps({"type": kind, **fields}).encode())


def hello(protocol: Any = 1, **lies: Any) -> bytes:
    """Return the frame of a hello whose facts are true but for `lies`."""
    return control("hello", protocol=protocol, facts=read_facts() | lies)


def ready(**lies: Any) -> bytes:
    """Return the frames of a guest whose kernel is ready."""
    return hello() + control("kernel_ready", **({"generation": 1, "context_type": "str", "context_length": 7} | lies))


LIES: dict[str, Callable[[], Any]] = {
    "nothing": lambda: b"",
    "end": lambda: sys.exit(0),
    "http": lambda: b"HTTP/1.1 200 OK\r\n\r\n",
    "no json": lambda: frame(CONTROL, b"\xff\xfe"),
    "nested": lambda: frame(CONTROL, b"[" * 60_000),
    "other type": lambda: control("kernel_ready", generation=1, context_type="str", context_length=1),
    "long frame": lambda: frame(IOPUB, b"", length=2**32 - 1),
    "long message": lambda: frame(CONTROL, b"x" * 60_000, flags=1) * 2,
    "flood": lambda: itertools.repeat(frame(IOPUB, b"x" * 200_000)),
    "tiny flood": lambda: itertools.repeat(frame(SHELL, b"x") * 1000),
    "credits": lambda: frame(SUBCALL, (1).to_bytes(4, "big"), flags=2),
    "pings": lambda: itertools.repeat(frame(CONTROL, b"", flags=4) * 1000),
    "pongs": lambda: hello() + frame(CONTROL, b"", flags=8) * 1000,
    "long ping": lambda: frame(CONTROL, b"x", flags=4),
    "protocol": lambda: hello(protocol=2),
    "protocol type": lambda: hello(protocol="1"),
    "root": lambda: hello(uid=0),
    "no facts": lambda: control("hello", protocol=1, facts={}),
    "list of facts": lambda: control("hello", protocol=1, facts=[]),
    "capabilities": lambda: hello(cap_eff="0xzz"),
    "negative": lambda: hello(pids_max=-HUGE, memory_swap_max=-HUGE),
    "nan": lambda: hello(cpu_max=float("nan")),
    "minus": lambda: hello(pids_max=-5, memory_max=-5, cpu_max=-0.0, nofile=[-1, -1]),
    "escapes": lambda: hello(python="\x1b]0;title\x07", interfaces=["\x1b[2J"]),
    "huge generation": lambda: ready(generation=HUGE),
    "huge length": lambda: ready(context_length=HUGE),
    "negative length": lambda: ready(context_length=-1),
    "long type": lambda: ready(context_type="x" * 201),
    "bind failed": lambda: hello() + control("bind_failed", message="\x1b]0;title\x07" * 1000),
    "died": lambda: hello() + control("kernel_died", generation=1, code=HUGE),
    "context": lambda: ready() + frame(CONTEXT, b"mine"),
    "sub-call": lambda: ready() + frame(SUBCALL, b'{"kind":"rlm","id":1,"prompt":"x","depth":0}'),
}


def say(data: Any) -> None:
    """Write bytes, or each of many."""
    if isinstance(data, bytes):
        while data:
            data = data[os.write(CARRIER.write_fd, data) :]
    else:
        for part in data:
            say(part)


CARRIER = open_carrier().connect()
os.set_blocking(CARRIER.write_fd, True)
try:
    say(LIES[sys.argv[1]]())
    time.sleep(600 if sys.argv[1] == "nothing" else 0.5)
except BrokenPipeError:
    sys.exit(1)
