# mypy: disable-error-code="no-untyped-call"
"""The kernel's own ways out (stdout, stderr, displays, results), each cut before a message is made."""

from typing import Any

from ipykernel.displayhook import ZMQShellDisplayHook
from ipykernel.iostream import OutStream
from ipykernel.zmqshell import ZMQDisplayPublisher

from .cuts import CellAccounts, cut_bundle

ACCOUNTS = CellAccounts()


class CutStream(OutStream):
    """A stdout or stderr that passes on what its cell may still write."""

    def write(self, string: str) -> int:
        """Take all of `string`, pass on what is kept."""
        kept = ACCOUNTS.take_text(self.parent_header.get("msg_id", ""), string)
        if kept:
            super().write(kept)
        return len(string)

    def write_mark(self, mark: str) -> None:
        """Write past the limit."""
        super().write(mark)


class CutPublisher(ZMQDisplayPublisher):
    """Publishes displays whose data is cut."""

    def publish(self, data: Any, metadata: Any = None, source: Any = None, **kwargs: Any) -> None:
        """Publish one display, or count it when its cell has shown too much."""
        data = cut_bundle(data)
        if ACCOUNTS.take_display(self.parent_header.get("msg_id", ""), data):
            super().publish(data, metadata, source=source, **kwargs)


class CutDisplayHook(ZMQShellDisplayHook):
    """Sends the value of a cell's last expression, its data cut."""

    def write_format_data(self, format_dict: Any, md_dict: Any = None) -> None:
        """Take the value's forms."""
        super().write_format_data(cut_bundle(format_dict), md_dict)
