"""Words for names that nobody knows."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_SECRET = re.compile(r"key|secret|passw|credential|auth|bearer|(^|_)token$", re.IGNORECASE)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean …?` with the nearest of `known`, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def hint(name: str, known: Iterable[str]) -> str:
    """Return what to say of the unknown key `name` of a file: the nearest of `known`, or where secrets belong."""
    if _SECRET.search(name):
        variable = name.upper() if name.lower().endswith("_api_key") else "OPENAI_API_KEY or another provider's"
        return f"; keys and other secrets stay in the environment: set {variable}"
    return nearest(name, known)
