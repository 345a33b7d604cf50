"""Contexts that arrive over the stream, written to the container's own tmpfs."""

from collections.abc import Iterable
from pathlib import Path

from . import places
from .wire import WireError


class ContextInbox:
    """Takes the bytes of each context's blob and index in order; `error` says why they could not be kept."""

    def __init__(self, files: Iterable[tuple[str, int]]) -> None:
        """Expect `files`, each by its name and its size in bytes."""
        self.error: str | None = None
        self._rest = list(files)
        for name, _ in self._rest:
            self._write(name, b"", "wb")
        self._skip_full()

    @property
    def complete(self) -> bool:
        """Whether every byte has arrived."""
        return not self._rest

    def take(self, data: bytes) -> None:
        """Keep the next bytes. Raise `WireError` when there are more than were announced."""
        while data:
            if not self._rest:
                raise WireError("more context than was announced")
            name, missing = self._rest[0]
            part, data = data[:missing], data[missing:]
            self._write(name, part, "ab")
            self._rest[0] = (name, missing - len(part))
            self._skip_full()

    def _skip_full(self) -> None:
        while self._rest and not self._rest[0][1]:
            del self._rest[0]

    def _write(self, name: str, data: bytes, mode: str) -> None:
        if self.error is None:
            try:
                with (Path(places.PRIVATE) / name).open(mode) as file:
                    file.write(data)
            except OSError as error:
                self.error = f"the context can't be kept in {places.PRIVATE}: {error.strerror}"
