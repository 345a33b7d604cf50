"""How much output a cell may send: the cut in the relay, which holds when the kernel's own was taken away."""

from collections import OrderedDict
from dataclasses import dataclass, field

from .rate import Rate
from .wire import MIB

SPARE_MESSAGES = 1000
"""How many of a cell's messages that always pass may come on top of the others."""


@dataclass(frozen=True, slots=True)
class OutputLimits:
    """Limits in bytes and messages; `queue` is what may wait for the host to read on.

    Those per second are for all cells together, after a burst in which one cell has room for all that it may send.
    All of them are above what the kernel's own cut lets pass.
    """

    message: int = MIB
    cell_bytes: int = 12 * MIB
    cell_messages: int = 20_000
    queue: int = 16 * MIB
    cells: int = 64
    bytes_burst: int = 32 * MIB
    bytes_per_second: int = 4 * MIB
    messages_burst: int = 40_000
    messages_per_second: int = 4_000


@dataclass(slots=True)
class _Cell:
    size: int = 0
    messages: int = 0
    cut_size: int = 0
    cut_messages: int = 0


@dataclass(slots=True)
class OutputMeter:
    """Counts output per request and per second and decides what passes.

    What belongs to no request that is known here shares one account.
    """

    limits: OutputLimits = field(default_factory=OutputLimits)
    _cells: OrderedDict[str, _Cell] = field(default_factory=lambda: OrderedDict({"": _Cell()}))
    _bytes: Rate = field(init=False)
    _messages: Rate = field(init=False)

    def __post_init__(self) -> None:
        self._bytes = Rate(self.limits.bytes_burst, self.limits.bytes_per_second)
        self._messages = Rate(self.limits.messages_burst, self.limits.messages_per_second)

    def start(self, cell: str) -> None:
        """Open the account of a cell or another request; the oldest ones are closed."""
        self._cells[cell] = _Cell()
        while len(self._cells) > self.limits.cells:
            oldest = next(name for name in self._cells if name)
            del self._cells[oldest]

    def admit(self, cell: str, size: int, queued: int, *, always: bool) -> bool:
        """Count one output and say whether it may pass; `always` is for the few that a cell's end needs."""
        account = self._cells.get(cell) or self._cells[""]
        limits = self.limits
        if always:
            fits = account.messages < limits.cell_messages + SPARE_MESSAGES and queued + size <= 2 * limits.queue
        else:
            fits = (
                size <= limits.message
                and account.size + size <= limits.cell_bytes
                and account.messages < limits.cell_messages
                and queued + size <= limits.queue
                and self._bytes.left() >= size
                and self._messages.take(1)
            )
        if fits:
            self._bytes.take(size)
            account.size += size
            account.messages += 1
        else:
            self.cut(cell, size)
        return fits

    def cut(self, cell: str, size: int) -> None:
        """Count what was left out otherwise."""
        account = self._cells.get(cell) or self._cells[""]
        account.cut_size += size
        account.cut_messages += 1

    def take_cuts(self) -> list[tuple[str, int, int]]:
        """Return cell, bytes and messages of what was left out since the last call."""
        cuts = []
        for cell, account in self._cells.items():
            if account.cut_messages:
                cuts.append((cell, account.cut_size, account.cut_messages))
                account.cut_size = account.cut_messages = 0
        return cuts
