"""Values that are nested so deeply that who reads them back could not: a word takes the place of what is too deep."""

from __future__ import annotations

import msgspec

from rlm_kernel.events import AnyEvent
from rlm_kernel.types import JSON

MOST_NESTING = 200
TOO_DEEP = "[… nested too deeply to be recorded …]"


def shallow(event: AnyEvent) -> AnyEvent:
    """Return `event`, itself unless a value in it has more levels than are recorded."""
    values = {name: getattr(event, name) for name in event.__struct_fields__}
    cut = {name: _cut(value, MOST_NESTING) for name, value in values.items() if _is_deep(value)}
    return msgspec.structs.replace(event, **cut) if cut else event


def _is_deep(value: JSON) -> bool:
    """Tell it level by level, as a call for each level could end the interpreter's patience."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MOST_NESTING):
        if not level:
            return False
        level = [
            child
            for each in level
            for child in (each.values() if isinstance(each, dict) else each)
            if isinstance(child, dict | list)
        ]
    return bool(level)


def _cut(value: JSON, levels: int) -> JSON:
    match value:
        case dict():
            return {key: _cut(item, levels - 1) for key, item in value.items()} if levels else TOO_DEEP
        case list():
            return [_cut(item, levels - 1) for item in value] if levels else TOO_DEEP
    return value
