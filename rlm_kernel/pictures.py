"""What an image file is: its kind and its size in pixels, read from its first bytes and nobody's word."""

from __future__ import annotations

import struct
from typing import NamedTuple

MAX_BYTES = 20 * 1024 * 1024
"""What an image may have."""
MAX_SIDE = 16_384
"""Pixels that an image may be wide or high."""

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_GIF = (b"GIF87a", b"GIF89a")
_NO_FRAME = (0xC4, 0xC8, 0xCC)
"""JPEG segments between the frames' numbers that start none."""


class Picture(NamedTuple):
    """An image's kind, as in `image/png`, and its size in pixels."""

    media_type: str
    width: int
    height: int


def is_picture(head: bytes) -> bool:
    """Say whether a file that begins so is an image of a kind that models take: PNG, JPEG, GIF, WebP."""
    return head.startswith((_PNG, _JPEG, *_GIF)) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def look_at(data: bytes) -> Picture:
    """Return what an image is. Raise `ValueError`, in words, for what is none, is broken, or is too large."""
    if not is_picture(data[:16]):
        raise ValueError("it is no PNG, JPEG, GIF or WebP image")
    if len(data) > MAX_BYTES:
        raise ValueError(f"it has {len(data):,} bytes, an image may have {MAX_BYTES:,}")
    try:
        media_type, (width, height) = _read(data)
    except (struct.error, IndexError):
        raise ValueError("it ends within its header") from None
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise ValueError(f"it claims {width:,} x {height:,} pixels, an image may have {MAX_SIDE:,} each way")
    return Picture(media_type, width, height)


def _read(data: bytes) -> tuple[str, tuple[int, int]]:
    if data.startswith(_PNG):
        if data[12:16] != b"IHDR":
            raise ValueError("its header is broken")
        return "image/png", struct.unpack_from(">II", data, 16)
    if data.startswith(_JPEG):
        return "image/jpeg", _jpeg_size(data)
    if data.startswith(_GIF):
        return "image/gif", struct.unpack_from("<HH", data, 6)
    return "image/webp", _webp_size(data)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Go from segment to segment to the first frame."""
    at = 2
    while True:
        if data[at] != 0xFF:
            raise ValueError("its header is broken")
        kind = data[at + 1]
        if kind == 0xFF:
            at += 1
        elif 0xC0 <= kind <= 0xCF and kind not in _NO_FRAME:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        elif kind in (0xD9, 0xDA):
            raise ValueError("its header is broken")
        else:
            (length,) = struct.unpack_from(">H", data, at + 2)
            at += 2 + max(2, length)


def _webp_size(data: bytes) -> tuple[int, int]:
    match data[12:16]:
        case b"VP8X":
            return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", data, 21)
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", data, 26)
            return width & 0x3FFF, height & 0x3FFF
    raise ValueError("its header is broken")
