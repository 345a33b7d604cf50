"""Small images, and the beginnings of others."""

import base64
import struct

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgZGIGAAAOAAfXb+R4AAAAAElFTkSuQmCC")
GIF = base64.b64decode("R0lGODdhAQABAIEAAAECAwAAAAAAAAAAACwAAAAAAQABAAAIBAABBAQAOw==")
WEBP = base64.b64decode("UklGRiQAAABXRUJQVlA4IBgAAAAwAQCdASoBAAEAAUAmJaQAA3AA/v0gUAA=")
WEBP_LOSSLESS = base64.b64decode("UklGRiAAAABXRUJQVlA4TBQAAAAvAAAAAAdQgVQIIAAKmv7HiIj+Bw==")
WEBP_EXTENDED = base64.b64decode(
    "UklGRkgAAABXRUJQVlA4WAoAAAAIAAAAAAAAAAAAVlA4IBgAAAAwAQCdASoBAAEAAUAmJaQAA3AA/v0gUABFWElGCgAAAE1NACoAAAAIAAA="
)
JPEG = (
    b"\xff\xd8\xff\xe1\x00\x08Exif\0\0\xff\xc4\x00\x02\xff\xff\xc2\x00\x0b\x08"
    + struct.pack(">HH", 17, 3000)
    + b"\x01\x11"
)


def png(width: int, height: int, more: bytes = b"") -> bytes:
    """Return a PNG's header with any size, and `more` after it."""
    return PNG[:16] + struct.pack(">II", width, height) + PNG[24:] + more
