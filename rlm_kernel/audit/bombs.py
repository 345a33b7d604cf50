"""Code that takes all it can get of one thing: how far it got, what became of its session, what its neighbour felt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from rlm_kernel.audit.claims import Finding, Outcome, Scene, broken, found, held, not_checked
from rlm_kernel.audit.programs import printed
from rlm_kernel.errors import SandboxError
from rlm_kernel.kernel import CellResult
from rlm_kernel.sandbox.spec import GUEST_PRIVATE, GUEST_TMP, SandboxSpec
from rlm_kernel.types import JSON

SECONDS = 1.5
"""How long a bomb may go on; with the interrupt and a new kernel its session is back about two seconds later."""
MORE_SECONDS = 10.0
"""The same where the machine was too busy for the bomb to get to its limit."""
TRIED = f"ran it for {SECONDS:g} s or more beside another session"
SLOWEST = 5.0
"""Seconds that a small cell of the neighbour may take meanwhile."""
HOST_GROWTH = 200 * 1024 * 1024
PAGE = 4096
Amount = Annotated[int, msgspec.Meta(ge=0)]


@dataclass(frozen=True, slots=True)
class Bomb:
    """A program in `cells/bombs`; `limits` is what its counts are measured by, `survives` that its session has to."""

    name: str
    title: str
    limits: Literal["pids", "memory", "disk", "nofile", ""] = ""
    survives: bool = True


BOMBS = (
    Bomb("forks", "A fork bomb ends at the limit of processes", "pids"),
    Bomb("threads", "Threads end at the limit of processes and threads", "pids"),
    Bomb("memory", "Memory ends at its limit", "memory", survives=False),
    Bomb("disk", "Files end at the sizes of the scratch space", "disk"),
    Bomb("descriptors", "Open files end at their limit", "nofile"),
    Bomb("output", "A flood of output is cut, and takes no memory of the host"),
    Bomb("regex", "A C loop that holds the interpreter is ended"),
    Bomb("kills", "Killing everything leaves the session alive"),
)


class Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a bomb prints once it can have no more: how much it got, and what stopped it."""

    got: Annotated[dict[Annotated[str, msgspec.Meta(max_length=100)], Amount], msgspec.Meta(max_length=10)]
    stopped: Annotated[str, msgspec.Meta(max_length=200)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blast:
    """What was seen of one bomb.

    `result` is None where the session ended with `error`. `usable` says that cells ran as before afterwards; `slowest`
    is the neighbour's slowest cell in seconds, None if it failed; `grown` counts bytes of this process.
    """

    result: CellResult | None
    error: SandboxError | None
    usable: bool
    slowest: float | None
    grown: int


def given(spec: SandboxSpec) -> dict[str, JSON]:
    """Return what a bomb is told: the limits, so that it stops on its own where an engine sets none."""
    disk: dict[str, JSON] = {place: size for place, size in _disk(spec).items()}  # noqa: C416 - for JSON's wider type
    return {"pids": spec.pids, "memory": spec.memory, "nofile": spec.nofile, "disk": disk}


def _disk(spec: SandboxSpec) -> dict[str, int]:
    sizes = {GUEST_TMP: spec.tmp_size, "/dev/shm": spec.shm_size, GUEST_PRIVATE: spec.private_size}  # noqa: S108 - inside
    # What fills more than the memory ends as the memory bomb does.
    return {place: size for place, size in sizes.items() if size < spec.memory // 4}


def is_too_slow(bomb: Bomb, blast: Blast) -> bool:
    """Tell whether the time was up before a bomb had said how far it got."""
    result = blast.result
    return bool(bomb.limits) and result is not None and result.status == "timed_out" and not printed(result)


def judge(bomb: Bomb, blast: Blast, scene: Scene) -> Finding:
    """Return the finding for one bomb."""
    return found(f"bomb.{bomb.name}", bomb.title, TRIED, _outcome(bomb, blast, scene))


def unjudged(why: str) -> Iterator[Finding]:
    """Yield a failure for each bomb: what was not tried is not taken to end well."""
    for bomb in BOMBS:
        yield found(f"bomb.{bomb.name}", bomb.title, TRIED, not_checked(why))


def _outcome(bomb: Bomb, blast: Blast, scene: Scene) -> Outcome:
    ended = _ended(blast)
    if blast.slowest is None:
        return broken(ended, "see what else the engine's machine does", "the other session did not answer")
    if blast.slowest > SLOWEST:
        reason = f"a cell of the other session took {blast.slowest:.1f} s"
        return broken(ended, "give the engine more processors, or sessions fewer with --cpus", reason)
    if blast.grown > HOST_GROWTH:
        return broken(ended, "report this", f"this process grew by {blast.grown / 2**20:.0f} MiB")
    if blast.error is None and not blast.usable:
        return broken(ended, "report this", "the session did not work afterwards, and no error said so")
    if blast.error is not None and bomb.survives:
        return broken(ended, "allow more with --memory and --pids", "the session should have lived on")
    problem, got = _got(bomb, blast, scene)
    seen = f"{got}{ended}; the other session's slowest cell took {blast.slowest:.1f} s"
    return broken(seen, "let the engine set the limit; see docs/security.md", problem) if problem else held(seen)


def _ended(blast: Blast) -> str:
    if blast.error is not None or blast.result is None:
        return f"the session ended with {type(blast.error).__name__}"
    return f"the cell ended: {blast.result.status}, and the session {'works' if blast.usable else 'is broken'}"


def _got(bomb: Bomb, blast: Blast, scene: Scene) -> tuple[str, str]:
    """Return what is wrong with how far the bomb got, "" if nothing is, and the words for how far that was."""
    result = blast.result
    if result is None or bomb.name == "kills":
        return "", ""
    if result.status == "kernel_died" and (bomb.name == "memory" or scene.own_kernel):
        return "", ""  # a kernel of its own gets its processes' memory from the same limit
    if bomb.name == "output":
        return ("" if result.cut else "nothing was cut"), f"{result.cut / 2**20:.0f} MiB cut, "
    if bomb.name == "regex":
        return ("" if result.status != "ok" else "it ended by itself"), ""
    progress = _progress(result)
    if progress is None:
        too_slow = scene.own_kernel and is_too_slow(bomb, blast)
        return ("" if too_slow else "the cell told nothing of how far it got"), "it told nothing of how far it got, "
    words = "".join(f"{amount} {what}, " for what, amount in progress.got.items()) + f"then {progress.stopped!r}; "
    beyond = progress.stopped == "nothing" or not _within(bomb, progress.got, scene.spec)
    return "it got more than the limit" if beyond else "", words


def _within(bomb: Bomb, got: Mapping[str, int], spec: SandboxSpec) -> bool:
    if bomb.limits == "disk":
        sizes = _disk(spec)
        return set(got) == set(sizes) and all(amount <= sizes[place] + PAGE for place, amount in got.items())
    if bomb.limits == "":
        return True
    limit: int = getattr(spec, bomb.limits)
    return len(got) == 1 and all(amount <= limit for amount in got.values())


def _progress(result: CellResult) -> Progress | None:
    """Return what the bomb printed; None if that is not what our bombs print."""
    try:
        first, _, _ = printed(result).partition(b"\n")  # IPython may add words of its own as it ends
        return msgspec.json.decode(first, type=Progress)
    except (msgspec.DecodeError, RecursionError):
        return None
