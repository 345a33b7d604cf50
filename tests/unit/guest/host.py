"""A small host for tests: it starts the real relay outside a container and speaks the wire format with it."""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import rlm_kernel.guest
import rlm_kernel.toolkit
from rlm_kernel.guest.wire import Channel, Wire

FROM_GUEST = frozenset({Channel.CONTROL, Channel.SHELL, Channel.SUBCALL, Channel.IOPUB})
CELL_END = "__import__('rlm_guest.names', fromlist=['x']).cell_end()"
CELL_MIME = "application/vnd.rlm-kernel.cell+json"
Answer = Callable[[dict[str, Any]], dict[str, Any] | None]


@dataclass
class Cell:
    """What a cell gave, as it arrived."""

    outputs: list[dict[str, Any]] = field(default_factory=list)
    reply: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Everything written to stdout and stderr."""
        return "".join(out["content"]["text"] for out in self.outputs if out["header"]["msg_type"] == "stream")

    @property
    def result(self) -> str:
        """The last expression's value as text."""
        (found,) = (out for out in self.outputs if out["header"]["msg_type"] == "execute_result")
        return str(found["content"]["data"]["text/plain"])

    @property
    def end(self) -> dict[str, Any]:
        """What the cell's end told."""
        return dict(self.reply["user_expressions"]["rlm"]["data"][CELL_MIME])


class GuestHost:
    """A relay with its kernel, and the host's end of their stream."""

    def __init__(
        self,
        carrier: str = "socket",
        *,
        answer: Answer | None = None,
        wrapper: tuple[str, ...] = (),
        lease: float = 60.0,
    ) -> None:
        """Start a guest; `wrapper` is a command to start it with, `lease` the silence it bears, in seconds."""
        self.answer = answer or (lambda request: {"text": f"re: {request['prompt']}"})
        self.folder = Path(tempfile.mkdtemp(prefix="rlm-", dir="/tmp"))
        self.shared, self.private = self.folder / "shared", self.folder / "private"
        self.shared.mkdir()
        self.private.mkdir()
        for package in (rlm_kernel.guest, rlm_kernel.toolkit):
            (self.folder / package.__name__.replace("kernel.", "")).symlink_to(Path(package.__file__ or "").parent)
        self.wire = Wire(FROM_GUEST)
        self.control: deque[dict[str, Any]] = deque()
        self.messages: deque[tuple[Channel, dict[str, Any]]] = deque()
        self.requests: list[dict[str, Any]] = []
        self.outbox = b""
        self.cells = 0
        self.lease = lease
        self._start(carrier, wrapper)

    def _start(self, carrier: str, wrapper: tuple[str, ...]) -> None:
        env = os.environ | {
            "RLM_CARRIER": carrier,
            "RLM_LEASE": str(self.lease),
            "RLM_SHARED": str(self.shared),
            "RLM_PRIVATE": str(self.private),
            "PYTHONPATH": str(self.folder),
        }
        env.pop("PYTEST_CURRENT_TEST", None)  # under it ipykernel leaves the descriptors alone
        argv = [*wrapper, sys.executable, "-P", "-m", "rlm_guest.relay"]
        if carrier == "attach":
            self.stream, other = socket.socketpair()
            with other:
                self.process = subprocess.Popen(argv, env=env, stdin=other.fileno(), stdout=other.fileno())
        else:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(self.shared / "stream"))
                listener.listen(1)
                listener.settimeout(20)
                self.process = subprocess.Popen(argv, env=env)
                self.stream, _ = listener.accept()
        self.stream.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stream.close()
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()
            shutil.rmtree(self.folder)

    def step(self, deadline: float) -> None:
        """Exchange bytes once. Raise `TimeoutError` at the deadline, `EOFError` when the guest ended the stream."""
        self.outbox += self.wire.data_to_send()
        wait = deadline - time.monotonic()
        readable, writable, _ = select.select([self.stream], [self.stream] if self.outbox else [], [], max(wait, 0))
        if not readable and not writable and wait <= 0:
            raise TimeoutError(f"nothing more came; so far: {list(self.control)}, {len(self.messages)} messages")
        if writable:
            self.outbox = self.outbox[self.stream.send(self.outbox) :]
        if readable:
            try:
                data = self.stream.recv(1 << 20)
            except ConnectionResetError:
                data = b""
            if not data:
                raise EOFError
            for message in self.wire.receive(data):
                self.wire.release(message)
                self._take(message.channel, json.loads(message.payload))

    def until_sent(self) -> None:
        """Write all that waits and that the windows allow."""
        self.outbox += self.wire.data_to_send()
        while self.outbox:
            select.select([], [self.stream], [])
            self.outbox = self.outbox[self.stream.send(self.outbox) :]

    def _take(self, channel: Channel, content: dict[str, Any]) -> None:
        if channel is Channel.CONTROL:
            self.control.append(content)
        elif channel is Channel.SUBCALL:
            self.requests.append(content)
            if (reply := self.answer(content)) is not None:
                self.reply(content["id"], **reply)
        else:
            self.messages.append((channel, content))

    def reply(self, number: int, **reply: Any) -> None:
        """Answer a sub-call."""
        self.wire.send(Channel.SUBCALL, json.dumps({"id": number, **reply}).encode())

    def tell(self, kind: str, **fields: Any) -> None:
        """Send a control message."""
        self.wire.send(Channel.CONTROL, json.dumps({"type": kind, **fields}).encode())

    def until(self, kind: str, seconds: float = 20) -> dict[str, Any]:
        """Return the next control message of a kind; others are dropped, and the lease is kept meanwhile."""
        deadline = time.monotonic() + seconds
        while True:
            while self.control:
                message = self.control.popleft()
                if message["type"] == kind:
                    return message
            try:
                self.step(min(deadline, time.monotonic() + self.lease / 4))
            except TimeoutError:
                if time.monotonic() >= deadline:
                    raise
                self.wire.ping()

    def bind(self, text: str = "the context", **more: Any) -> dict[str, Any]:
        """Give a text as the context, `more` beside it, and return what `kernel_ready` says."""
        return self.bind_file("str", text.encode(), **more)

    def bind_file(self, kind: str, blob: bytes, index: bytes = b"", **more: Any) -> dict[str, Any]:
        """Give a context as files in the shared folder."""
        (self.shared / "context").write_bytes(blob)
        (self.shared / "context.json").write_bytes(index)
        self.tell_bind(kind, len(blob), len(index), **more)
        return self.until("kernel_ready")

    def tell_bind(self, kind: str, size: int, index_size: int = 0, source: str = "file", **more: Any) -> None:
        """Announce one context."""
        context = {"name": "context", "kind": kind, "size": size, "index_size": index_size}
        self.tell("bind", source=source, contexts=[context], **more)

    def request(self, code: str) -> str:
        """Ask for a cell to be run and return its message id."""
        self.cells += 1
        cell = f"cell-{self.cells}"
        header = {"msg_id": cell, "msg_type": "execute_request", "session": "host", "username": "", "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {"rlm": CELL_END}}
        content |= {"allow_stdin": False, "stop_on_error": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        self.wire.send(Channel.SHELL, json.dumps(message).encode())
        return cell

    def run(self, code: str, seconds: float = 20) -> Cell:
        """Run a cell to its end: the reply and the idle status."""
        return self.finish(self.request(code), seconds)

    def finish(self, name: str, seconds: float = 20) -> Cell:
        """Wait for the end of a cell that was asked for."""
        deadline, cell, idle = time.monotonic() + seconds, Cell(), False
        while True:
            while self.messages:
                channel, message = self.messages.popleft()
                if message["parent_header"].get("msg_id") != name:
                    continue
                if channel is Channel.SHELL:
                    cell.reply = message["content"]
                elif message["header"]["msg_type"] == "status":
                    idle = message["content"]["execution_state"] == "idle"
                else:
                    cell.outputs.append(message)
            if cell.reply and idle:
                return cell
            self.step(deadline)
