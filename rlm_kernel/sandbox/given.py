"""What a caller may give as a context, beyond a path, a text or a JSON value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import msgspec

from rlm_kernel.errors import ConfigError
from rlm_kernel.sandbox.formats import TEXT, Form
from rlm_kernel.sandbox.stored import StoredContext
from rlm_kernel.sandbox.variables import check_names

MAX_CONTEXTS = 50

if TYPE_CHECKING:
    Value: TypeAlias = Mapping[str, "Value"] | Sequence["Value"] | str | int | float | None
    """A JSON value whose lists and dicts may be of any element type: a `list[str]` is one, and no `list[JSON]`."""
else:
    Value = Any


class Frame(Protocol):
    """A data frame."""

    @property
    def columns(self) -> Any:
        """The names of its columns."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table, which becomes a list of dicts, one for each row: a CSV or TSV file, a data frame, or rows as JSON.

    A file's first line names the columns, its cells are all text, and its delimiter is found in that line unless given.
    """

    source: Path | Any
    delimiter: str | None = None

    def __post_init__(self) -> None:
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            raise ConfigError(f"a table's delimiter is one character, not {self.delimiter!r}")


@dataclass(frozen=True, slots=True)
class Json:
    """A file that holds one JSON value, which becomes that value."""

    source: Path


@dataclass(frozen=True, slots=True)
class JsonLines:
    """A file with a JSON value on each line, which becomes a list of them."""

    source: Path


FORMS = {"table": Table, "json": Json, "jsonl": JsonLines}
"""What a file can be read as, by the name of it on the command line."""

One = StoredContext | Path | Table | Json | JsonLines | bytes | Frame | Value | msgspec.Raw


def opened(context: One) -> tuple[Any, Form]:
    """Return the path or the value within `context`, and what a file there is read as."""
    match context:
        case Table(source, delimiter):
            by_name = "\t" if isinstance(source, Path) and source.suffix.lower() in (".tsv", ".tab") else None
            return source, Form("table", delimiter or by_name)
        case Json(source):
            return source, Form("json")
        case JsonLines(source):
            return source, Form("jsonl")
        case _:
            return context, TEXT


class Contexts(Mapping[str, One]):
    """Several contexts by name: in the kernel each is a variable of its name, and `context` a dict of them all.

    Raise `ConfigError` for a name that can't be one: it has to be a Python identifier that stands for nothing else.
    """

    def __init__(self, contexts: Mapping[str, One] | None = None, /, **named: One) -> None:
        self._contexts = {**(contexts or {}), **named}
        if not 0 < len(self._contexts) <= MAX_CONTEXTS:
            raise ConfigError(f"there can be 1 to {MAX_CONTEXTS} contexts with names, not {len(self._contexts)}")
        check_names(self._contexts, "context")

    def __getitem__(self, name: str) -> One:
        return self._contexts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._contexts)

    def __len__(self) -> int:
        return len(self._contexts)
