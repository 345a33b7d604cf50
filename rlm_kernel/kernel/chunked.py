"""What a guest tells of its calls of `chunk()`: a display of a kind of its own, which is no output."""

from __future__ import annotations

import msgspec

from rlm_kernel.kernel.messages import Count, Envelope, decode_lenient
from rlm_kernel.toolkit import Strategy

CHUNKED_MIME = "application/vnd.rlm-kernel.chunked+json"
MOST_RECORDED = 100
"""Reports of one cell."""
LONGEST = 2_000
"""Bytes of a report."""


class Chunked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of `ContextChunked`, as the guest sends them."""

    strategy: Strategy
    chunks: Count
    characters: Count
    shortest: Count
    longest: Count
    size: Count
    overlap: Count


class _Data(msgspec.Struct, frozen=True):
    chunked: Chunked = msgspec.field(name=CHUNKED_MIME)


class _Display(msgspec.Struct, frozen=True):
    data: _Data


def read_chunked(message: Envelope) -> Chunked | None:
    """Return the report that `message` is; None if it is another message, or one that can't be read."""
    if message.header.msg_type != "display_data" or len(bytes(message.content)) > LONGEST:
        return None
    display = decode_lenient(message.content, _Display)
    return None if display is None else display.data.chunked
