"""Cutting output before a message is made of it; every cut is marked."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Any

STREAM_LIMIT = 1_000_000
"""Bytes, as JSON, of a cell's stdout and stderr together; less than the relay lets one message have."""

ENTRY_LIMIT = 256 * 1024
BUNDLE_LIMIT = 900_000
DISPLAYS_LIMIT = 4 * 1024 * 1024
DISPLAYS_COUNT = 5_000
TRACEBACK_LIMIT = 64 * 1024
MESSAGE_LIMIT = 16 * 1024
CELLS_KEPT = 16


def json_size(text: str) -> int:
    """Return how many bytes `text` takes in a JSON message."""
    quoted = encode_basestring(text)
    return len(quoted) if quoted.isascii() else len(quoted.encode("utf-8", "surrogatepass"))


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


def cut_bundle(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a MIME bundle whose text entries are cut and whose too large other entries are named instead."""
    kept: dict[str, Any] = {}
    room, left_out = BUNDLE_LIMIT, []
    for mime in sorted(data, key=lambda mime: mime != "text/plain"):
        value = data[mime]
        if isinstance(value, str) and mime.startswith("text/"):
            value = cut_text(value, min(ENTRY_LIMIT, room))
        size = _size(value)
        if size <= room:
            kept[mime] = value
            room -= size
        else:
            left_out.append(f"{mime} of {size} bytes")
    if left_out:
        mark = f"[… {', '.join(left_out)} cut …]"
        kept["text/plain"] = f"{kept['text/plain']}\n{mark}" if "text/plain" in kept else mark
    return kept


def _size(value: Any) -> int:
    if isinstance(value, str):
        return json_size(value)
    if isinstance(value, bytes):
        return len(value) * 4 // 3 + 4
    if isinstance(value, Mapping):
        return sum(_size(str(key)) + _size(item) for key, item in value.items()) + 2
    if isinstance(value, (list, tuple)):
        return sum(map(_size, value)) + 2
    return 32


@dataclass(slots=True)
class _Account:
    text: int = 0
    text_cut: int = 0
    displays: int = 0
    displays_size: int = 0
    displays_cut: int = 0


class CellAccounts:
    """How much each of the latest cells has written and shown, from any of its threads."""

    def __init__(self) -> None:
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self._lock = threading.RLock()

    def take_text(self, cell: str, text: str) -> str:
        """Return the part of `text` that `cell` may still write."""
        with self._lock:
            account = self._account(cell)
            if account.text_cut:
                account.text_cut += len(text)
                return ""
            room = STREAM_LIMIT - account.text
            kept = head(text, room)
            account.text_cut += len(text) - len(kept)
            kept = head(sound(kept), room)
            account.text += json_size(kept) - 2
            return kept

    def take_display(self, cell: str, data: Mapping[str, Any]) -> bool:
        """Say whether `cell` may show one more bundle."""
        with self._lock:
            account, size = self._account(cell), _size(data)
            if account.displays < DISPLAYS_COUNT and account.displays_size + size <= DISPLAYS_LIMIT:
                account.displays += 1
                account.displays_size += size
                return True
            account.displays_cut += 1
            return False

    def text_cut(self, cell: str) -> int:
        """Return how many characters of text `cell` wrote that were left out."""
        with self._lock:
            return self._account(cell).text_cut

    def mark(self, cell: str) -> str:
        """Return what to say of a cell's cuts at its end, if there were any; later output is left out too."""
        with self._lock:
            account = self._account(cell)
            marks = []
            if account.text_cut:
                marks.append(f"\n[… {account.text_cut} characters of output cut …]\n")
            if account.displays_cut:
                marks.append(f"\n[… {account.displays_cut} displays cut …]\n")
            return "".join(marks)

    def _account(self, cell: str) -> _Account:
        account = self._accounts.get(cell)
        if account is None:
            account = self._accounts[cell] = _Account()
            while len(self._accounts) > CELLS_KEPT:
                self._accounts.popitem(last=False)
        return account
