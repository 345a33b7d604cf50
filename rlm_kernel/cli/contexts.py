"""The contexts that a command line names."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rlm_kernel.config import Settings
    from rlm_kernel.sandbox.contexts import ContextStore
    from rlm_kernel.sandbox.stored import Stored, StoredContext


def store_sources(sources: Sequence[str], settings: Settings, *, skip_binary: bool = False) -> Stored:
    """Store what `sources` name, each a path, or `-` for standard input, after a name and `=` and a form and `:`.

    Raise `UsageError`, `ConfigError` for a name, or what `ContextStore` raises.
    """
    from rlm_kernel.sandbox.contexts import ContextStore  # noqa: PLC0415 - its imports take too long for `--help`
    from rlm_kernel.sandbox.given import Contexts  # noqa: PLC0415
    from rlm_kernel.sandbox.stored import StoredContexts  # noqa: PLC0415

    named = _named(sources)
    if named:
        Contexts(named)
    store = ContextStore(settings.contexts_dir)
    if not named:
        return _stored(store, sources[0], settings, skip_binary=skip_binary)
    parts = (
        replace(_stored(store, source, settings, skip_binary=skip_binary), name=name) for name, source in named.items()
    )
    return StoredContexts(tuple(parts))


def _named(sources: Sequence[str]) -> dict[str, str]:
    """Return the sources by name; none of them if there is one without a name."""
    pairs = [(name, path) for name, equals, path in (source.partition("=") for source in sources) if equals]
    pairs = [(name, path) for name, path in pairs if name.isidentifier()]
    if not pairs and len(sources) == 1:
        return {}
    if len(pairs) < len(sources):
        raise click.UsageError("several contexts need a name each: --context NAME=PATH")
    named = dict(pairs)
    if len(named) < len(pairs):
        raise click.UsageError("two contexts have the same name")
    if sum(source.rpartition(":")[2] == "-" for source in named.values()) > 1:
        raise click.UsageError("only one context can be standard input")
    return named


def _stored(store: ContextStore, source: str, settings: Settings, *, skip_binary: bool) -> StoredContext:
    from rlm_kernel.sandbox.given import FORMS, opened  # noqa: PLC0415 - as above

    kind, _, rest = source.partition(":")
    path, form = opened(FORMS[kind](Path(rest)) if kind in FORMS else Path(source))
    if str(path) == "-":
        return store.put_stream(sys.stdin.buffer, form, max_bytes=settings.memory)
    return store.put_path(path, form, skip_binary=skip_binary, max_bytes=settings.memory)
