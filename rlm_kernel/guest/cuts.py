"""Cutting texts, tracebacks and bundles before a message is made of them; every cut is marked."""

from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring
from typing import Any

ENTRY_LIMIT = 256 * 1024
BUNDLE_LIMIT = 900_000
TRACEBACK_LIMIT = 64 * 1024
MESSAGE_LIMIT = 16 * 1024
NESTING_LIMIT = 100
_PIECE = 64 * 1024


def json_size(text: str) -> int:
    """Return how many bytes `text` takes in a JSON message."""
    quoted = encode_basestring(text)
    return len(quoted) if quoted.isascii() else len(quoted.encode("utf-8", "surrogatepass"))


def utf8_size(text: str, start: int = 0) -> int:
    """Return how many bytes `text` from `start` on takes in UTF-8, without a copy of all of it."""
    if text.isascii():
        return len(text) - start
    pieces = (text[at : at + _PIECE] for at in range(start, len(text), _PIECE))
    return sum(len(piece.encode("utf-8", "surrogatepass")) for piece in pieces)


def sound(text: str) -> str:
    """Return `text` with what UTF-8 can't carry written as escapes."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def head(text: str, limit: int) -> str:
    """Return as much of the beginning of `text` as takes about `limit` bytes in JSON, and never more."""
    text = text[: max(limit, 0)]
    while text and (size := json_size(text)) > limit + 2:
        text = text[: len(text) * limit // size]
    return text


def cut_text(text: str, limit: int) -> str:
    """Return `text` within `limit` bytes as JSON, its middle left out and marked if it is longer."""
    if len(text) <= limit and json_size(text := sound(text)) <= limit:
        return text
    room = max(limit - 100, 0)
    start = sound(head(text, room * 2 // 3))
    end = sound(head(text[-(room // 3) :][::-1], room // 3)[::-1])
    start, end = head(start, room * 2 // 3), end[-(room // 3) :]
    return f"{start}\n[… {len(text) - len(start) - len(end)} characters cut …]\n{end}"


def cut_traceback(lines: Sequence[str]) -> list[str]:
    """Return a traceback of bearable length, its head and tail kept."""
    if sum(map(len, lines)) <= TRACEBACK_LIMIT // 6:
        return [sound(line) for line in lines]
    return [cut_text("\n".join(lines), TRACEBACK_LIMIT)]


def cut_bundle(data: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Return a MIME bundle whose text entries are cut and whose too large other entries are named instead.

    The number is how many bytes were left out.
    """
    kept: dict[str, Any] = {}
    room, left_out, cut = BUNDLE_LIMIT, [], 0
    for mime in sorted(data, key=lambda mime: mime != "text/plain"):
        value = data[mime]
        if isinstance(value, str) and mime.startswith("text/"):
            whole, value = value, cut_text(value, min(ENTRY_LIMIT, room))
            cut += max(utf8_size(whole) - utf8_size(value), 0)
        size = bundle_size(value)
        if size <= room:
            kept[mime] = value
            room -= size
        else:
            left_out.append(f"{mime} of {size} bytes")
            cut += size
    if left_out:
        mark = f"[… {', '.join(left_out)} cut …]"
        kept["text/plain"] = f"{kept['text/plain']}\n{mark}" if "text/plain" in kept else mark
    return kept, cut


def bundle_size(value: Any) -> int:
    """Return about how many bytes a bundle, or a value in it, takes in a JSON message."""
    if isinstance(value, str):
        return json_size(value)
    if isinstance(value, bytes):
        return len(value) * 4 // 3 + 4
    if isinstance(value, Mapping):
        return sum(bundle_size(str(key)) + bundle_size(item) for key, item in value.items()) + 2
    if isinstance(value, (list, tuple)):
        return sum(map(bundle_size, value)) + 2
    return 32


def is_nested(value: Any, limit: int = NESTING_LIMIT) -> bool:
    """Say whether lists and dicts lie in each other more than `limit` deep; the host's reader has its limit too."""
    if not isinstance(value, (list, tuple, dict)):
        return False
    items = value.values() if isinstance(value, dict) else value
    return not limit or any(is_nested(item, limit - 1) for item in items)
