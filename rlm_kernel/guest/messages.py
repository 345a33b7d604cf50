"""Jupyter's wire protocol between relay and kernel, and the JSON objects it becomes on the stream."""

import hmac
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

DELIMITER = b"<IDS|MSG>"
HEADER_LIMIT = 64 * 1024
"""Bytes of a header; the relay reads headers, and memory that it takes can't be got back by killing the kernel."""


class KernelMessage(NamedTuple):
    """A message of the kernel: what the relay looks at, and the JSON object for the host."""

    type: str
    cell: str
    payload: bytes


def to_kernel(message: Mapping[str, Any], key: bytes) -> list[bytes]:
    """Sign a message for the kernel. Raise `KeyError` when a part is missing."""
    parts = [json.dumps(message[name]).encode() for name in ("header", "parent_header", "metadata", "content")]
    digest = hmac.new(key, digestmod="sha256")
    for part in parts:
        digest.update(part)
    return [DELIMITER, digest.hexdigest().encode(), *parts]


def from_kernel(frames: list[bytes]) -> KernelMessage | None:
    """Join a message's raw parts; None if it has not the shape of one. Buffers are left out."""
    try:
        start = frames.index(DELIMITER) + 2
        header, parent, metadata, content = frames[start : start + 4]
        if len(header) + len(parent) > HEADER_LIMIT:
            return None
        kind = json.loads(header)["msg_type"]
        cell = json.loads(parent).get("msg_id", "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if not isinstance(kind, str) or not isinstance(cell, str):
        return None
    return KernelMessage(kind, cell, join(header, parent, metadata, content))


def join(header: bytes, parent: bytes, metadata: bytes, content: bytes) -> bytes:
    """Make one JSON object of four JSON texts, unread."""
    return b'{"header":%b,"parent_header":%b,"metadata":%b,"content":%b}' % (header, parent, metadata, content)


def own_message(kind: str, cell: str, content: Mapping[str, Any]) -> bytes:
    """Return a message of the relay's own, as one of the kernel's that belongs to `cell`."""
    header = {
        "msg_id": f"relay-{cell}",
        "msg_type": kind,
        "version": "5.3",
        "username": "",
        "session": "",
        "date": "",
    }
    parts: tuple[Mapping[str, Any], ...] = (header, {"msg_id": cell}, {}, content)
    return join(*(json.dumps(part).encode() for part in parts))
