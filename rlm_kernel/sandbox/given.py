"""What a caller may give as a context, beyond a path, a text or a JSON value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from rlm_kernel.errors import ConfigError
from rlm_kernel.sandbox.stored import StoredContext
from rlm_kernel.sandbox.variables import check_names
from rlm_kernel.types import JSON

MAX_CONTEXTS = 50

One = StoredContext | Path | JSON


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
