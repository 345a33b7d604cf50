# mypy: disable-error-code="no-untyped-call,untyped-decorator"
"""Values and errors as text, written no further than will be shown."""

import io
from array import array
from typing import Any

from IPython.core.formatters import PlainTextFormatter, catch_format_error
from IPython.core.ultratb import AutoFormattedTB
from IPython.lib.pretty import RepresentationPrinter

from .cuts import ENTRY_LIMIT, MESSAGE_LIMIT, cut_text

_LONG = (str, bytes, bytearray, array)


class _Full(Exception):
    """The text has reached its limit."""


class _Room(io.StringIO):
    """Takes as much text as may be shown, then raises `_Full`."""

    def write(self, text: str) -> int:
        room = ENTRY_LIMIT - self.tell()
        super().write(text[:room])
        if len(text) > room:
            raise _Full
        return len(text)


class CutPlainText(PlainTextFormatter):
    """Writes a value's text, and of a long one only the beginning, before memory is spent on the rest."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for kind in _LONG:
            self.for_type(kind, _pretty)

    @catch_format_error
    def __call__(self, obj: Any) -> str:
        """Return the text; an error in a value's own repr is shown as the cell's."""
        room = _Room()
        try:
            self._print(obj, room)
        except _Full:
            return f"{room.getvalue()}\n[… the rest of this {_described(obj)} cut …]"
        return room.getvalue()

    def _print(self, obj: Any, room: _Room) -> None:
        printer = RepresentationPrinter(
            room,
            self.verbose,
            self.max_width,
            self.newline,
            max_seq_length=self.max_seq_length,
            singleton_pprinters=self.singleton_printers,
            type_pprinters=self.type_printers,
            deferred_pprinters=self.deferred_printers,
        )
        printer.pretty(obj)
        printer.flush()


class CutTraceback(AutoFormattedTB):
    """Formats errors whose messages are cut before they are."""

    def format_exception(self, etype: Any, evalue: Any) -> Any:
        """Return an error's last lines."""
        try:
            shown = _Shown(evalue)
        except Exception:  # noqa: BLE001 - an error's own `__str__`; the base tells of it
            shown = evalue
        return super().format_exception(etype, shown)


class _Shown:
    """Stands in for an error: its message and notes, cut."""

    def __init__(self, error: BaseException) -> None:
        self._message = cut_text(str(error), MESSAGE_LIMIT)
        self.__notes__ = [cut_text(note, MESSAGE_LIMIT) for note in getattr(error, "__notes__", ())]

    def __str__(self) -> str:
        return self._message


def _pretty(value: Any, printer: Any, cycle: bool) -> None:
    """Write a sequence's repr; of a very long one only the beginning."""
    if len(value) <= ENTRY_LIMIT:
        printer.text(repr(value))
    else:
        printer.text(f"{value[:ENTRY_LIMIT]!r}\n[… {len(value) - ENTRY_LIMIT} of {len(value)} cut …]")


def _described(obj: Any) -> str:
    try:
        return f"{type(obj).__name__} of {len(obj)} items"
    except Exception:  # noqa: BLE001 - a value's own `__len__`
        return type(obj).__name__
