"""The Jupyter messages that are used, and the guest's control messages, checked as they arrive.

The message protocol is https://jupyter-client.readthedocs.io/en/stable/messaging.html, version 5.3.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from rlm_kernel.errors import GuestProtocolError
from rlm_kernel.types import JSON

CELL_MIME = "application/vnd.rlm-kernel.cell+json"
CLOCK = "rlm_clock"
LATEST_CLOCK = 250_000_000_000.0
"""In the year 9892: room for a clock that ticks on to what Python can tell of time."""
CELL_END = "__import__('rlm_guest.names', fromlist=['names']).cell_end()"
"""What IPython evaluates after a cell that succeeded; its value comes inside the reply, in order."""

S = TypeVar("S")
Name = Annotated[str, msgspec.Meta(max_length=200)]
MAX_COUNT = 2**53
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]


class Header(msgspec.Struct, frozen=True):
    """A message's own header."""

    msg_id: Name
    msg_type: Name


class ParentHeader(msgspec.Struct, frozen=True):
    """The header of the request a message belongs to; empty for what the kernel sends by itself."""

    msg_id: Name = ""


class Envelope(msgspec.Struct, frozen=True):
    """A message whose content is not looked at yet."""

    header: Header
    content: msgspec.Raw
    parent_header: ParentHeader = ParentHeader()


class StreamContent(msgspec.Struct, frozen=True):
    """Text on stdout or stderr."""

    name: Literal["stdout", "stderr"]
    text: str


class Transient(msgspec.Struct, frozen=True):
    """What a display says that is not part of it."""

    display_id: Name | None = None


class ClearContent(msgspec.Struct, frozen=True):
    """A clear_output."""

    wait: bool = False


class DisplayContent(msgspec.Struct, frozen=True):
    """A rich display or a result, by MIME type."""

    data: dict[str, Any]
    metadata: dict[str, Any] = {}
    execution_count: Count | None = None
    transient: Transient = Transient()


class ErrorContent(msgspec.Struct, frozen=True):
    """An exception that ended a cell."""

    ename: str
    evalue: str
    traceback: list[str]


class StatusContent(msgspec.Struct, frozen=True):
    """The kernel's state."""

    execution_state: Name


class ReplyContent(msgspec.Struct, frozen=True):
    """An execute_reply; `rlm_cut` counts the bytes of output that the kernel itself left out."""

    status: Literal["ok", "error", "aborted", "abort"]
    execution_count: Count | None = None
    ename: msgspec.Raw = msgspec.Raw(b"null")
    evalue: msgspec.Raw = msgspec.Raw(b"null")
    rlm_cut: Count = 0
    user_expressions: dict[str, msgspec.Raw] = {}

    def error(self) -> tuple[str | None, str | None]:
        """Return an error's name and message, for when its output was cut."""
        if self.status == "ok":
            return None, None
        return decode_lenient(self.ename, str), decode_lenient(self.evalue, str)


class CellEndBundle(msgspec.Struct, frozen=True):
    """The value of `CELL_END` as IPython wraps it."""

    data: dict[str, msgspec.Raw] = {}


class FinalContent(msgspec.Struct, frozen=True):
    """The answer a cell gave."""

    value: Any
    source: Literal["FINAL", "FINAL_VAR", "answer"]


class CellEnd(msgspec.Struct, frozen=True):
    """What the guest says at the end of a cell: its answer, if any, and the names of the user's variables."""

    final: FinalContent | None = None
    names: Annotated[list[Name], msgspec.Meta(max_length=1000)] = []


class KernelReadyMessage(msgspec.Struct, frozen=True, tag="kernel_ready"):
    """The kernel answers and `context` is bound; `emptied` says that it needed the room of files in memory."""

    generation: Count
    context_type: Name
    context_length: Count
    emptied: bool = False
    contexts: Annotated[list[tuple[Name, Count]], msgspec.Meta(max_length=1000)] = []


class KernelWarm(msgspec.Struct, frozen=True, tag="kernel_warm"):
    """The kernel has loaded; it may still lack its context."""

    generation: Count


class BindFailed(msgspec.Struct, frozen=True, tag="bind_failed"):
    """The context could not be loaded."""

    message: str


class KernelDied(msgspec.Struct, frozen=True, tag="kernel_died"):
    """The kernel process ended by itself; `code` is negative for a signal."""

    generation: Count
    code: Annotated[int, msgspec.Meta(ge=-255, le=255)]
    oom: bool = False


class Cut(msgspec.Struct, frozen=True, tag="cut"):
    """The relay left out output of a cell."""

    cell_msg_id: Name
    bytes: Count
    messages: Count


class Restarted(msgspec.Struct, frozen=True, tag="restarted"):
    """Everything but the relay is killed, and the kernel of `generation` is on its way."""

    generation: Count


ControlMessage = KernelWarm | Restarted | KernelReadyMessage | BindFailed | KernelDied | Cut


def control(kind: str, **fields: JSON) -> bytes:
    """Return a control message for the relay."""
    return msgspec.json.encode({"type": kind, **fields})


def decode(payload: bytes | msgspec.Raw, shape: type[S]) -> S:
    """Read a message that the guest's own code makes. Raise `GuestProtocolError` if it has another shape."""
    try:
        return msgspec.json.decode(payload, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise GuestProtocolError(f"the container sent a malformed message: {error}") from None


def decode_lenient(content: msgspec.Raw, shape: type[S]) -> S | None:
    """Read content that model code can shape through IPython's own functions; None if it can't be used."""
    try:
        return msgspec.json.decode(content, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def execute_request(code: str, clock: float | None = None) -> tuple[str, bytes]:
    """Return a new message id and an execute_request for `code`, to be run with the wall clock set to `clock`."""
    msg_id = uuid.uuid4().hex
    header: dict[str, JSON] = {
        "msg_id": msg_id,
        "msg_type": "execute_request",
        "username": "host",
        "session": "rlm_kernel",
        "date": datetime.now(UTC).isoformat(),
        "version": "5.3",
    }
    content: dict[str, JSON] = {
        "code": code,
        "silent": False,
        "store_history": True,
        "user_expressions": {"rlm": CELL_END},
        "allow_stdin": False,
        "stop_on_error": False,
    }
    metadata = {} if clock is None else {CLOCK: min(max(clock, 0.0), LATEST_CLOCK)}
    request = {"header": header, "parent_header": {}, "metadata": metadata, "content": content}
    return msg_id, msgspec.json.encode(request)
