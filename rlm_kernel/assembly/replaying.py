"""`rerun`: a recorded run again, by the ordinary controller and session over recorded models, as a new run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rlm_kernel.assembly.asked import Asked
from rlm_kernel.assembly.contexts import Context
from rlm_kernel.assembly.kept import Kept
from rlm_kernel.assembly.result import RunResult
from rlm_kernel.assembly.sinks import Listeners
from rlm_kernel.errors import RlmKernelError
from rlm_kernel.recording import Recording


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What becomes of a recorded run.

    "replay": all of it runs again, and behind it is nothing: no key, no network, no limit. "resume": all of it, then
    live models, and what it had used counts. "fork": it up to turn `until_turn` (None: all), then live models and a
    budget of its own. `question` is asked once the recorded ones are over, or in place of the rest of the one that
    `until_turn` cuts.
    """

    how: Literal["replay", "resume", "fork"]
    until_turn: int | None = None
    question: Asked | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A call of a cell that ran again and that the recording does not hold; `call` is its name in the new run."""

    node: str
    cell: int
    call: str
    kind: str


@dataclass(slots=True, kw_only=True)
class Rerun:
    """What it came to: the new run and its folder, which is gone by now if it was not to be kept.

    `result` is that of the last question, `error` why a replay has none: the recorded failure once more, or
    `RecordingEnded` where the recorded run was killed or cancelled. `missing` are the calls that were not on the tape,
    `late` notices of answers whose recorded order could not be kept.
    """

    run: str = ""
    recording: Path = Path()
    result: RunResult[Any] | None = None
    error: RlmKernelError | None = None
    missing: list[Missing] = field(default_factory=list)
    late: list[str] = field(default_factory=list)


async def rerun(
    kept: Kept,
    recording: Recording,
    context: Context,
    plan: Plan,
    listeners: Listeners,
    *,
    read: Callable[[Path], None] | None = None,
) -> Rerun:
    """Run what `recording` holds again, and go on as `plan` says; the new run is recorded as any other.

    `kept.settings` are those that count, as whoever calls has made them of the recorded ones and the user's;
    `kept.tools` are for live calls alone, `context` is the recorded one, as it is stored. `read` is given the new
    run's `events.jsonl` once that is complete, before it is removed if it is not to be kept: compare there.

    Raise what `open_run` and, once live, `OpenRun.ask` raise; `RecordingError` where there is nothing to run again.
    """
    raise NotImplementedError
