"""What a run is from, and what is from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from rlm_kernel.events import RunOrigin
from rlm_kernel.recording.summary import RunSummary

MOST_ABOVE = 20
MOST = 200
"""No more runs of a family are looked at."""


@dataclass(slots=True)
class Relative:
    """A run of a family, with those that are from it; without a `summary` it is gone."""

    run: str
    summary: RunSummary | None
    origin: RunOrigin | None = None
    below: list[Relative] = field(default_factory=list)


def family(run: str, origin: RunOrigin | None, found: Iterable[RunSummary]) -> Relative:
    """Return the run that `run` comes from in the end, with all that comes from it; origins may be untrue.

    `found` are the runs that there are.
    """
    known = {summary.run: summary for summary in found}
    children: dict[str, list[RunSummary]] = {}
    for summary in known.values():
        if summary.origin is not None:
            children.setdefault(summary.origin.run, []).append(summary)
    top, seen = run, {run}
    while origin is not None and origin.run not in seen and len(seen) <= MOST_ABOVE:
        top = origin.run
        seen.add(top)
        origin = known[top].origin if top in known else None
    root = Relative(top, known.get(top), origin)
    waiting, seen = [root], {top}
    while waiting and len(seen) < MOST:
        relative = waiting.pop(0)
        for child in sorted(children.get(relative.run, []), key=lambda each: each.run):
            if child.run not in seen:
                seen.add(child.run)
                relative.below.append(Relative(child.run, child, child.origin))
        waiting += relative.below
    return root
