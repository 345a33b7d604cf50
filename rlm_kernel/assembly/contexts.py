"""What a run is about: stored, checked against the session's memory, recorded, and described to the root model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from rlm_kernel.controller import ContextSummary
from rlm_kernel.events import AnyEvent, ContextStored, KernelReady, Notice
from rlm_kernel.sandbox.contexts import ContextStore
from rlm_kernel.sandbox.given import Contexts, One
from rlm_kernel.sandbox.stored import Stored, StoredContext, StoredContexts
from rlm_kernel.sandbox.unneeded import take
from rlm_kernel.session import check_fits

Context = One | Contexts | StoredContexts
"""What a context may be: a stored one, a file's or folder's path, a text, a JSON value, or several by name."""


async def store_context(store: ContextStore, context: Context, memory: int) -> Stored:
    """Store `context` for a session of `memory` bytes. Raise a `ContextError`, `StorageFull` or `StorageError`."""
    match context:
        case StoredContext() | StoredContexts():
            stored: Stored = context
            for part in stored.parts:
                await asyncio.to_thread(take, *part.files_in_store)
        case Contexts():
            stored = await store.put_all(context, max_bytes=memory)
        case _:
            stored = await store.put(context, max_bytes=memory)
    check_fits(stored, memory)
    return stored


def context_events(stored: Stored) -> Iterator[AnyEvent]:
    """Yield what a recording says of `stored`."""
    for part in stored.parts:
        yield ContextStored(
            digest=part.digest,
            kind=part.kind,
            size=part.size,
            source=part.source,
            index_digest=part.index_digest,
            name=part.name,
        )
    for part in stored.parts:
        for note in part.notes:
            yield Notice(message=note)


def summary(stored: Stored, ready: KernelReady, tools: tuple[str, ...] = ()) -> ContextSummary:
    """Return what the root model is told of `stored`, as the kernel has bound it, and of `tools`."""
    if not ready.contexts:
        return replace(_summary(stored.parts[0], ready.context_type, ready.context_length), tools=tools)
    return ContextSummary(
        type_name="dict",
        length=ready.context_length,
        unit="contexts",
        total_chars=sum(part.chars for part in stored.parts),
        preview="",
        tools=tools,
        parts=tuple(_summary(part, *ready.contexts[part.name]) for part in stored.parts),
    )


def _summary(part: StoredContext, type_name: str, length: int) -> ContextSummary:
    if part.picture is not None:
        picture = part.picture
        told = f"{picture.media_type}, {picture.width:,} x {picture.height:,} pixels, {part.size:,} bytes"
        return ContextSummary(name=part.name, type_name=told, length=0, unit="image", total_chars=0, preview="")
    unit: Literal["characters", "files", "items"] = (
        "characters" if type_name == "str" else "files" if part.kind == "files" else "items"
    )
    return ContextSummary(
        name=part.name,
        type_name="dict[str, str]" if part.kind == "files" else type_name,
        length=length,
        unit=unit,
        total_chars=part.chars,
        preview=part.preview,
        names=part.names,
    )
