"""The relay's loop: one thread that carries messages between the host's stream and the kernel."""

import ctypes
import json
import os
import signal
import socket
from collections import deque
from math import ceil
from time import monotonic
from typing import Any

import zmq

from . import places
from .carrier import Carrier
from .facts import oom_kills, read_facts
from .framed import Framed
from .inbox import ContextInbox
from .leftovers import clear
from .messages import KernelMessage, own_message
from .meter import OutputMeter
from .process import KernelProcess, kill_all
from .sockets import QUEUE_LENGTH, KernelSockets
from .wire import LIMITS, MIB, PROTOCOL_VERSION, Channel, Message, WireError

PR_SET_DUMPABLE = 4
HELD = MIB
"""Bytes of sub-calls that may wait to be passed on before the sender's window stays shut."""

BATCH = 200
"""Messages of one socket handled before the others get their turn."""

REPLIES_QUEUE = 16 * MIB
DRAIN_MS = 20
"""How long to wait for the last words of a kernel that died."""

FROM_HOST = frozenset({Channel.CONTROL, Channel.SHELL, Channel.SUBCALL, Channel.CONTEXT})


def prepare() -> int:
    """Shield this process from others of its user; return the descriptor that tells of ended children."""
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    wake, waker = socket.socketpair()
    wake.setblocking(False)
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.detach(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # the wake-up descriptor needs a handler
    return wake.detach()


class Relay:
    """Joins the host's stream to one kernel after the other."""

    def __init__(self, carrier: Carrier, process: KernelProcess, wake_fd: int, lease: float) -> None:
        """`lease` is in seconds: how long the host may be silent."""
        self._stream = Framed(carrier.read_fd, carrier.write_fd, FROM_HOST)
        self._wake_fd = wake_fd
        self._lease = lease
        self._heard = monotonic()
        self._zmq: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._process = process
        self._kernel: KernelSockets | None = KernelSockets(self._zmq, process)
        self._bind: dict[str, Any] | None = None
        self._context_files: dict[str, int] = {}
        self._inbox: ContextInbox | None = None
        self._meter = OutputMeter()
        self._held_of_host: deque[Message] = deque()
        self._held_of_kernel: deque[Message] = deque()
        self._oom_kills = oom_kills()
        self._emptied = False

    def run(self) -> int:
        """Carry messages until the stream ends, then end everything; return the exit status."""
        try:
            self._tell_host("hello", protocol=PROTOCOL_VERSION, facts=read_facts())
            self._reap()  # a kernel that ended before the wake-up descriptor was there
            while True:
                self._turn()
        except (EOFError, WireError):
            return 0
        finally:
            kill_all(self._process.pid)

    def _turn(self) -> None:
        """Write what can be written, wait for something to arrive, and handle it."""
        kernel = self._kernel
        poller = zmq.Poller()
        poller.register(self._wake_fd, zmq.POLLIN)
        _watch(poller, self._stream)
        if kernel:
            self._watch_kernel(poller, kernel)
        left = max(0.0, self._heard + self._lease - monotonic())
        ready = dict(poller.poll(ceil(left * 1000)))
        if _readable(ready, self._stream):
            self._heard = monotonic()
            for message in self._stream.read():
                self._from_host(message)
        elif not left:
            raise EOFError  # the host stands still, or is gone without a word
        if kernel and kernel is self._kernel:
            self._from_kernel(kernel, ready)
        if self._wake_fd in ready:
            os.read(self._wake_fd, 4096)
            self._reap()
        self._release()

    def _watch_kernel(self, poller: zmq.Poller, kernel: KernelSockets) -> None:
        poller.register(kernel.shell, zmq.POLLIN)
        poller.register(kernel.iopub, zmq.POLLIN)
        if kernel.link_open:
            for end in kernel.ends:
                poller.register(end, zmq.POLLIN)
            try:
                _watch(poller, kernel.link)
            except EOFError:
                kernel.drop_link()

    # from the host

    def _from_host(self, message: Message) -> None:
        if message.channel is Channel.SUBCALL:
            self._held_of_host.append(message)
            if self._kernel:
                self._kernel.link.wire.send(Channel.SUBCALL, message.payload)
            return
        self._stream.wire.release(message)
        if message.channel is Channel.CONTEXT:
            self._take_context(message.payload)
            return
        try:
            content = json.loads(message.payload)
            if message.channel is Channel.SHELL:
                self._to_shell(content)
            else:
                self._control(content)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise WireError(f"a {message.channel.name} message that can't be read: {error!r}") from error

    def _to_shell(self, message: dict[str, Any]) -> None:
        self._meter.start(message["header"]["msg_id"])
        if self._kernel:
            self._kernel.send(message)

    def _control(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "bind" if self._bind is None:
                self._take_bind(message)
            case "interrupt":
                if self._kernel:
                    self._process.interrupt()
            case "cancel":
                if self._kernel:
                    self._kernel.tell({"type": "cancel", "cell": str(message["cell"])})
            case "restart":
                self._restart()
            case other:
                raise WireError(f"an unexpected control message {other!r}")

    def _take_bind(self, bind: dict[str, Any]) -> None:
        streamed = bind["source"] == "stream"
        folder = places.PRIVATE if streamed else places.SHARED
        files: list[tuple[str, int]] = []
        for number, context in enumerate(bind["contexts"]):
            blob, index = places.context_names(number)
            files += (blob, context["size"]), (index, context["index_size"])
            context |= {"path": f"{folder}/{blob}", "index_path": f"{folder}/{index}"}
        self._bind = bind
        self._context_files = dict(files)
        if streamed:
            self._inbox = ContextInbox(files)
        self._pass_bind_on()

    def _take_context(self, data: bytes) -> None:
        if self._inbox is None:
            raise WireError("a context that was not announced")
        self._inbox.take(data)
        self._pass_bind_on()

    def _pass_bind_on(self) -> None:
        """Tell the kernel of its context as soon as all of it is here."""
        if self._bind is None or (self._inbox and not self._inbox.complete):
            return
        if self._inbox and self._inbox.error:
            self._tell_host("bind_failed", message=self._inbox.error)
        elif self._kernel:
            self._kernel.tell(self._bind)

    def _restart(self) -> None:
        """Kill everything but this process and start the next kernel. Raise `OSError` when that can't be had."""
        kill_all(self._process.pid)
        self._drop_kernel()
        self._emptied = clear(sum(self._context_files.values()), self._context_files)
        self._process = KernelProcess(self._process.generation + 1)
        self._kernel = KernelSockets(self._zmq, self._process)
        self._oom_kills = oom_kills()
        self._tell_host("restarted", generation=self._process.generation)
        self._pass_bind_on()

    # from the kernel

    def _from_kernel(self, kernel: KernelSockets, ready: dict[Any, int]) -> None:
        if kernel.link_open and _readable(ready, kernel.link):
            self._from_link(kernel)
        for source in (kernel.iopub, kernel.shell):
            if source in ready:
                self._carry(kernel, source, BATCH)
        if any(end in ready for end in kernel.ends):
            kernel.drop_link()
        if not kernel.warm and kernel.answered and kernel.subscribed:
            kernel.warm = True
            self._tell_host("kernel_warm", generation=self._process.generation)
        if not kernel.ready and kernel.warm and kernel.bound:
            kernel.ready = True
            self._tell_host("kernel_ready", generation=self._process.generation, emptied=self._emptied, **kernel.bound)

    def _from_link(self, kernel: KernelSockets) -> None:
        try:
            for message in kernel.link.read():
                if message.channel is Channel.SUBCALL:
                    self._stream.wire.send(Channel.SUBCALL, message.payload)
                    self._held_of_kernel.append(message)
                else:
                    kernel.link.wire.release(message)
                    self._kernel_says(kernel, json.loads(message.payload))
        except (EOFError, WireError, ValueError, KeyError, TypeError, RecursionError):
            kernel.drop_link()

    def _kernel_says(self, kernel: KernelSockets, message: dict[str, Any]) -> None:
        match message["type"]:
            case "listening" if not kernel.connected:
                kernel.connect()
            case "bound" if not kernel.ready:
                kernel.bound = {
                    "context_type": str(message["context_type"])[:200],
                    "context_length": int(message["context_length"]),
                    "contexts": [[str(kind)[:50], int(length)] for kind, length in message["contexts"]],
                }
            case "bind_failed" if not kernel.ready:
                self._tell_host("bind_failed", message=str(message["message"])[:2000])

    def _carry(self, kernel: KernelSockets, source: "zmq.Socket[bytes]", at_most: int) -> None:
        """Pass messages of one of the kernel's sockets on to the host."""
        for _ in range(at_most):
            message = kernel.receive(source)
            if message is None:
                return
            if source is kernel.iopub:
                self._pass_output(message)
            else:
                self._pass_reply(message)

    def _pass_output(self, message: KernelMessage) -> None:
        payload = message.payload
        always = message.type in ("status", "error")
        if always and len(payload) > self._meter.limits.message:
            self._meter.cut(message.cell, len(payload))
            content = {"ename": "OutputTooLarge", "evalue": "an error was cut", "traceback": []}
            payload = own_message(message.type, message.cell, content)
        if self._meter.admit(message.cell, len(payload), self._stream.wire.queued(Channel.IOPUB), always=always):
            if message.type == "status":
                self._tell_cuts()
            self._stream.wire.send(Channel.IOPUB, payload)

    def _pass_reply(self, message: KernelMessage) -> None:
        payload = message.payload
        if len(payload) > LIMITS[Channel.SHELL].message:
            self._meter.cut(message.cell, len(payload))
            evalue = "the kernel's reply was too large"
            content = {"status": "error", "ename": "ReplyTooLarge", "evalue": evalue, "traceback": []}
            payload = own_message(message.type, message.cell, content)
        if self._stream.wire.queued(Channel.SHELL) < REPLIES_QUEUE:
            self._tell_cuts()
            self._tell_kills(message.cell)
            self._stream.wire.send(Channel.SHELL, payload)

    def _tell_cuts(self) -> None:
        for cell, size, messages in self._meter.take_cuts():
            self._tell_host("cut", cell_msg_id=cell, bytes=size, messages=messages)

    def _tell_kills(self, cell: str) -> None:
        """Let a cell that ends say so when the system killed processes it had started."""
        before, self._oom_kills = self._oom_kills, oom_kills()
        if before is not None and self._oom_kills is not None and (killed := self._oom_kills - before) > 0:
            text = f"[… {killed} processes were killed: the memory of the container was used up …]\n"
            content = {"name": "stderr", "text": text}
            self._stream.wire.send(Channel.IOPUB, own_message("stream", cell, content))

    # ends

    def _reap(self) -> None:
        """Take the exit status of every child that ended; orphans come to PID 1."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._process.pid and self._kernel:
                self._kernel_died(self._kernel, os.waitstatus_to_exitcode(status))

    def _kernel_died(self, kernel: KernelSockets, code: int) -> None:
        for source in (kernel.iopub, kernel.shell):
            if source.poll(DRAIN_MS):
                self._carry(kernel, source, QUEUE_LENGTH)
        self._tell_cuts()
        before, now = self._oom_kills, oom_kills()
        oom = code == -signal.SIGKILL and before is not None and now is not None and now > before
        self._tell_host("kernel_died", generation=self._process.generation, code=code, oom=oom)
        self._drop_kernel()

    def _drop_kernel(self) -> None:
        if self._kernel:
            self._kernel.close()
        self._kernel = None
        self._held_of_kernel.clear()
        self._release()

    def _release(self) -> None:
        """Open the senders' windows again for sub-calls that are passed on."""
        kernel, stream = self._kernel, self._stream.wire
        while self._held_of_host and (kernel is None or kernel.link.wire.queued(Channel.SUBCALL) < HELD):
            stream.release(self._held_of_host.popleft())
        while self._held_of_kernel and kernel and stream.queued(Channel.SUBCALL) < HELD:
            kernel.link.wire.release(self._held_of_kernel.popleft())

    def _tell_host(self, kind: str, **fields: Any) -> None:
        self._stream.wire.send(Channel.CONTROL, json.dumps({"type": kind, **fields}).encode())


def _watch(poller: zmq.Poller, end: Framed) -> None:
    waiting = zmq.POLLOUT if end.write() else 0
    if end.read_fd == end.write_fd:
        poller.register(end.read_fd, zmq.POLLIN | waiting)
    else:
        poller.register(end.read_fd, zmq.POLLIN)
        poller.register(end.write_fd, waiting)


def _readable(ready: dict[Any, int], end: Framed) -> bool:
    return bool(ready.get(end.read_fd, 0) & ~zmq.POLLOUT)
