"""What killed sessions left, which the next one that starts removes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rlm_kernel.assembly.sweeping import sweep
from rlm_kernel.config import Settings
from rlm_kernel.doctor.check import Check, note, ok
from rlm_kernel.errors import EngineUnavailable


def check_leftovers(settings: Settings) -> Iterator[Check]:
    """Look for what a sweep would remove; nothing is said where no engine answers, which another check tells."""
    what = ("leftovers", "Nothing of earlier sessions is left")
    try:
        left = Counter(leftover.kind for leftover in sweep(settings, dry_run=True))
    except EngineUnavailable:
        return
    if left:
        yield note(*what, ", ".join(f"{kind}: {count}" for kind, count in left.items()), "rlm-kernel gc")
    else:
        yield ok(*what, "nothing")
