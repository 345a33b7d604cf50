"""A call that a cell made, of a model, a session or a tool, as a document's parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rlm_kernel import events as ev
from rlm_kernel.export.parts import Block, Close, Open, Part, Words
from rlm_kernel.export.sums import Sums
from rlm_kernel.export.text import one_line, shortened
from rlm_kernel.export.told import duration, reply_facts, used
from rlm_kernel.recording import Recording
from rlm_kernel.recording.index import Call
from rlm_kernel.types import Usage

Session = Callable[[str], Iterator[Part]]
_BEGINNING = 80


def call_parts(
    recording: Recording, call: Call, sums: Sums, retried: int, shorten: int | None, session: Session
) -> Iterator[Part]:
    """Yield a call, folded: what was asked, what `session` yields of a session below, what came of it."""
    asked = recording.event(call.requested)
    ended = None if call.ended is None else recording.event(call.ended)
    retries = [f"{retried} attempts failed before" if retried > 1 else "an attempt failed before"] if retried else []
    yield Open(" · ".join([call.name, *_asked_for(asked), *_outcome(ended), *retries]))
    match asked:
        case ev.SubcallRequested():
            yield Block("Prompt", shortened(asked.prompt, shorten))
            if asked.context_digest:
                yield Words(f"With a context of its own, sha256:{asked.context_digest}.")
            for image in asked.images:
                yield Words(f"With an image, {image.media_type}, {image.size:,} bytes, sha256:{image.digest}.")
        case ev.ToolRequested():
            yield Block("Arguments", shortened(asked.arguments, shorten), "json")
    if call.kind == "rlm":
        yield from session(call.name)
    match ended:
        case ev.SubcallReplied():
            yield Block("Answer", shortened(ended.text, shorten))
        case ev.ToolReplied():
            yield Block("Result", shortened(ended.result, shorten), "json")
        case ev.SubcallFailed() | ev.ToolFailed():
            told = f" The cell was told: {ended.told}" if ended.told else ""
            yield Words(f"It failed: {ended.error}: {shortened(ended.message, shorten)}.{told}", alarm=True)
        case _:
            yield Words("It has no end here.", alarm=True)
    sums.call(ended.usage if isinstance(ended, ev.SubcallReplied | ev.SubcallFailed) else None)
    yield Close()


def _asked_for(asked: ev.AnyEvent) -> list[str]:
    match asked:
        case ev.SubcallRequested():
            return [one_line(asked.model), f"“{_beginning(asked.prompt)}”"]
        case ev.ToolRequested():
            return [f"{one_line(asked.tool)}({_beginning(asked.arguments)})"]
    return []


def _outcome(ended: ev.AnyEvent | None) -> list[str]:
    match ended:
        case ev.SubcallReplied():
            return reply_facts(ended)
        case ev.SubcallFailed():
            return [f"failed: {one_line(ended.error)}", duration(ended.seconds), *used(ended.usage or Usage())]
        case ev.ToolReplied():
            return [duration(ended.seconds)]
        case ev.ToolFailed():
            return [f"failed: {one_line(ended.error)}", duration(ended.seconds)]
    return ["no end"]


def _beginning(text: str) -> str:
    line = one_line(text[: 3 * _BEGINNING])
    return line if len(line) <= _BEGINNING and len(text) <= 3 * _BEGINNING else f"{line[:_BEGINNING]}…"
