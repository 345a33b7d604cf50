"""Redaction: what is kept out of a recording before it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec

from rlm_kernel.errors import RecordingError

T = TypeVar("T")
Redact = Callable[[str], str]
"""A hook: it is given a text that is about to be written, and returns what is written in its place."""

REDACTED = "[redacted]"
"""What a hook leaves in place of what it takes out."""

MOST_PLACES, LONGEST_PLACE = 100, 300
MOST_NESTING = 200
"""What is nested deeper is taken out whole."""
MOST_MARKS = 1_000

_OURS = frozenset(
    ["call", "run", "parent_run", "head", "digest", "index_digest", "context_digest", "container", "image", "image_id"]
)
"""Names and digests that the host makes: no text, and what finds its way by them would be lost."""


class Redaction:
    """Hooks, each of which is given every text of what is recorded; they may be called from several threads at once."""

    def __init__(self, hooks: Iterable[Redact]) -> None:
        self._hooks = tuple(hooks)

    def applied(self, value: T) -> tuple[T, list[str]]:
        """Return `value` as it may be written, and the first places where something was taken out of it.

        Keys of objects are texts too. Raise `RecordingError`, which holds nothing of the text, for a hook that raised
        or returned no text.
        """
        marking = _Marking(self._hooks)
        return marking.value(value), marking.places

    def strikes(self, value: object) -> bool:
        """Tell whether anything is taken out of `value`."""
        return bool(self.applied(msgspec.to_builtins(value))[1])


class _Marking:
    """One value's way through the hooks."""

    def __init__(self, hooks: tuple[Redact, ...]) -> None:
        self.places: list[str] = []
        self._hooks = hooks
        self._path: list[str] = []

    def value(self, value: Any) -> Any:
        """Return `value` itself where nothing of it is taken out."""
        if isinstance(value, str):
            return self._text(value)
        if not isinstance(value, msgspec.Struct | dict | list | tuple):
            return value
        if len(self._path) >= MOST_NESTING:
            self._struck()
            return REDACTED
        if isinstance(value, msgspec.Struct):
            return self._struct(value)
        if isinstance(value, dict):
            return self._object(value)
        marked = [self._at(str(index), item) for index, item in enumerate(value)]
        return value if all(new is old for new, old in zip(marked, value, strict=True)) else type(value)(marked)

    def _struct(self, value: msgspec.Struct) -> msgspec.Struct:
        marked = {name: self._at(name, getattr(value, name)) for name in _texts_of(type(value))}
        changed = {name: new for name, new in marked.items() if new is not getattr(value, name)}
        return msgspec.structs.replace(value, **changed) if changed else value

    def _object(self, value: dict[Any, Any]) -> dict[Any, Any]:
        marked: dict[Any, Any] = {}
        changed, more = False, 1
        for key, item in value.items():
            name = self._at("*", key)
            while name is not key and (name in marked or name in value):  # two keys may not become one
                more += 1
                name = f"{REDACTED} {more}"
            marked[name] = self._at(str(name), item)
            changed = changed or name is not key or marked[name] is not item
        return marked if changed else value

    def _at(self, step: str, value: Any) -> Any:
        self._path.append(step)
        try:
            return self.value(value)
        finally:
            self._path.pop()

    def _text(self, text: str) -> str:
        marked = text
        for hook in self._hooks if text else ():
            try:
                marked = hook(marked)
            except Exception as error:  # noqa: BLE001 - the caller's own code; its message may hold the text
                raise _failed(hook, f"raised {type(error).__name__}") from None
            if not isinstance(marked, str):
                raise _failed(hook, f"returned {type(marked).__name__}, not text")
        if marked == text:
            return text
        self._struck()
        return marked

    def _struck(self) -> None:
        if len(self.places) < MOST_PLACES:
            self.places.append(".".join(self._path)[:LONGEST_PLACE])


def _failed(hook: Redact, what: str) -> RecordingError:
    name = getattr(hook, "__qualname__", type(hook).__name__)
    return RecordingError(f"the redaction hook {name} {what}, so nothing more is recorded: mend it, or leave it out")


@cache
def _texts_of(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the fields that may hold a text of somebody else's: neither a name of ours nor one word of a choice."""
    return tuple(
        field.name for field in msgspec.structs.fields(kind) if field.name not in _OURS and not _is_choice(field.type)
    )


def _is_choice(annotation: object) -> bool:
    return get_origin(annotation) is Literal or any(_is_choice(part) for part in get_args(annotation))


def fits(recorded: str, text: str) -> bool:
    """Tell whether `text` may be what `recorded` was before something was taken out of it, in linear time.

    What stands between the marks has to be in `text`, in order and from end to end, with something in place of each
    mark. A text of marks alone fits nothing, and one of more than a thousand marks only itself. Ask only where the
    record says that something was taken out: any program can write a mark.
    """
    if recorded == text:
        return True
    first, *others = recorded.split(REDACTED, MOST_MARKS + 1)
    if not 0 < len(others) <= MOST_MARKS or not (first.strip() or any(map(str.strip, others))):
        return False
    *middle, last = others
    if not (text.startswith(first) and text.endswith(last)):
        return False
    at, end = len(first), len(text) - len(last)
    for piece in middle:
        found = text.find(piece, at + 1, end)
        if found < 0:
            return False
        at = found + len(piece)
    return at < end
