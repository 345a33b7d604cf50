"""What every event is."""

from __future__ import annotations

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=lambda name: name, omit_defaults=False):
    """Something that happened; the JSON field `type` is the class's name."""
