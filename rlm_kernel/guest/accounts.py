"""How much each cell has written and shown, and what of it was cut."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .cuts import bundle_size, head, json_size, sound, utf8_size
from .rate import Rate
from .wire import MIB

STREAM_LIMIT = 1_000_000
"""Bytes, as JSON, of a cell's stdout and stderr together; less than the relay lets one message have."""

DISPLAYS_LIMIT = 4 * MIB
DISPLAYS_COUNT = 5_000

BYTES_BURST, BYTES_PER_SECOND = 12 * MIB, 2 * MIB
DISPLAYS_BURST, DISPLAYS_PER_SECOND = 10_000, 1_000
"""What all cells together may write and show; one cell alone, with its own limits, never meets these."""

CELLS_KEPT = 16
CUT_HERE = "\n[… output is cut from here on …]\n"
_SURROGATE_GROWTH = 3


@dataclass(slots=True)
class _Account:
    parent: dict[str, Any]
    text: int = 0
    text_cut: int = 0
    displays: int = 0
    displays_size: int = 0
    displays_cut: int = 0
    displays_cut_size: int = 0
    told: tuple[int, int] = field(default=(0, 0))


class CellAccounts:
    """The accounts of the latest cells, kept for any of their threads; `parent` is the header of a cell's request."""

    def __init__(self) -> None:
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self._lock = threading.RLock()
        self._bytes = Rate(BYTES_BURST, BYTES_PER_SECOND)
        self._displays = Rate(DISPLAYS_BURST, DISPLAYS_PER_SECOND)

    def take_text(self, parent: Mapping[str, Any], text: str) -> str:
        """Return the part of `text` that a cell may still write; where the cut begins, that is said in it."""
        with self._lock:
            account = self._account(parent)
            if account.text_cut:
                account.text_cut += utf8_size(text)
                return ""
            kept = self._fitting(account, text)
            written = sound(kept)
            size = json_size(written) - 2
            account.text += size
            self._bytes.take(size)
            if len(kept) < len(text):
                account.text_cut = utf8_size(text, len(kept))
                written += CUT_HERE
            return written

    def _fitting(self, account: _Account, text: str) -> str:
        room = min(STREAM_LIMIT - account.text, self._bytes.left())
        kept = head(text, room)
        if json_size(sound(kept)) > room + 2:
            kept = head(kept, room // _SURROGATE_GROWTH)
        return kept

    def take_display(self, parent: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
        """Say whether a cell may show one more bundle."""
        with self._lock:
            account, size = self._account(parent), bundle_size(data)
            if (
                account.displays < DISPLAYS_COUNT
                and account.displays_size + size <= DISPLAYS_LIMIT
                and self._bytes.left() >= size
                and self._displays.take(1)
            ):
                self._bytes.take(size)
                account.displays += 1
                account.displays_size += size
                return True
            account.displays_cut += 1
            account.displays_cut_size += size
            return False

    def add_cut(self, parent: Mapping[str, Any], size: int) -> None:
        """Count bytes of a cell that were cut where they stood, and marked there."""
        if size:
            with self._lock:
                self._account(parent).displays_cut_size += size

    def cut(self, cell: str) -> int:
        """Return how many bytes of a cell's output were left out."""
        with self._lock:
            account = self._accounts.get(cell)
            return account.text_cut + account.displays_cut_size if account else 0

    def marks(self) -> list[tuple[dict[str, Any], str]]:
        """Return what is to be said of cuts since the last call, each with the header of its cell's request."""
        with self._lock:
            found = []
            for account in self._accounts.values():
                text, displays = account.text_cut - account.told[0], account.displays_cut - account.told[1]
                account.told = account.text_cut, account.displays_cut
                said = f"\n[… {text} bytes of output cut …]\n" if text else ""
                said += f"\n[… {displays} displays cut …]\n" if displays else ""
                if said:
                    found.append((account.parent, said))
            return found

    def _account(self, parent: Mapping[str, Any]) -> _Account:
        cell = str(parent.get("msg_id", ""))
        account = self._accounts.get(cell)
        if account is None:
            account = self._accounts[cell] = _Account(dict(parent))
            while len(self._accounts) > CELLS_KEPT:
                self._accounts.popitem(last=False)
        else:
            self._accounts.move_to_end(cell)
        return account
