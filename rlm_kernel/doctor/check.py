"""One thing that the doctor looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "problem"]
"""A note is worth knowing; a problem keeps sessions from running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was looked at, what was seen, and the command or change that mends it."""

    name: str
    title: str
    state: State
    seen: str
    remedy: str = ""


def ok(name: str, title: str, seen: str) -> Check:
    """All is well."""
    return Check(name=name, title=title, state="ok", seen=seen)


def note(name: str, title: str, seen: str, remedy: str = "") -> Check:
    """Sessions run, and something is worth knowing."""
    return Check(name=name, title=title, state="note", seen=seen, remedy=remedy)


def problem(name: str, title: str, seen: str, remedy: str) -> Check:
    """Sessions can't run until this is mended."""
    return Check(name=name, title=title, state="problem", seen=seen, remedy=remedy)
