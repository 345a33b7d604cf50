"""`replay_run`: a recorded run again, and what it came to beside what was recorded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from rlm_kernel.assembly.contexts import Context
from rlm_kernel.assembly.kept import Kept
from rlm_kernel.assembly.rerun.recorded import changed, recorded_context, recorded_settings
from rlm_kernel.assembly.rerun.rerun import Plan, Rerun, rerun
from rlm_kernel.assembly.rerun.resume import GoOn, fork_run
from rlm_kernel.assembly.result import RunResult
from rlm_kernel.assembly.sinks import Listeners
from rlm_kernel.config import Settings
from rlm_kernel.errors import ConfigError, RecordingEnded, RecordingError
from rlm_kernel.events import Notice, ProfileChosen, SandboxStarted
from rlm_kernel.recording import EVENTS_FILE, Recording, opened_run
from rlm_kernel.recording.compare.runs import Comparison, compare_runs
from rlm_kernel.sandbox.stored import Stored


class ReplayReport(msgspec.Struct, kw_only=True):
    """What replaying `run` came to, as the new run `replay`; docs/replay.md has the words.

    `comparison` is of every cell and answer, `changed` says what around them is not as it was, `notes` what else there
    is to say. `error` is why the last question has no answer in the replay. `recording` is the replay's own folder,
    None if it was not to be kept; `seconds` is how long it took, and `cell_seconds` how long its cells did.
    """

    run: str
    replay: str
    recording: str | None
    comparison: Comparison
    changed: list[str] = []
    notes: list[str] = []
    error: str | None = None
    seconds: float = 0.0
    cell_seconds: float = 0.0

    @property
    def differs(self) -> bool:
        """Whether anything is different, as `rlm-kernel replay` tells it by its exit status."""
        return self.comparison.differs


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """Which run to replay, by what `opened_run` takes.

    `context` is taken in place of the recorded one, and the settings named in `given` before the recorded ones; `keep`
    the replay's own recording.
    """

    run: str
    context: Context | None = None
    given: Collection[str] = ()
    keep: bool = False


async def replay_run(kept: Kept, listeners: Listeners, wanted: Again) -> ReplayReport:
    """Run a recorded run again, with no model, no network and no key, and compare each cell with what was recorded.

    Raise `RecordingError`, `ContextMissing`, or what starting a session raises.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        path = stack.enter_context(opened_run(kept.settings.state_dir, wanted.run))
        then = stack.enter_context(await asyncio.to_thread(Recording, path))
        notes: list[str] = []
        settings = _settings(then, kept.settings, notes, wanted)
        context = await recorded_context(kept.store, then, settings.memory, wanted.context)
        again: list[Recording] = []

        def read(events: Path) -> None:
            again.append(stack.enter_context(Recording(events)))  # which stays open when the file goes

        came = await rerun(kept.under(settings), then, context, Plan(how="replay"), listeners, read=read)
        if not again:
            raise RecordingError(f"the replay of {path} has no recording to compare")
        comparison = await asyncio.to_thread(compare_runs, then, again[0])
        return ReplayReport(
            run=then.started.run,
            replay=came.run,
            recording=str(came.recording) if wanted.keep else None,
            comparison=comparison,
            changed=_changed(then, again[0], settings, context),
            notes=[*notes, *_notes(then, came)],
            error=None if came.error is None else f"{type(came.error).__name__}: {came.error}",
            seconds=time.monotonic() - began,
            cell_seconds=sum(cell.seconds_now or 0.0 for cell in comparison.cells if not cell.node),
        )


async def replay_live(
    kept: Kept, listeners: Listeners, wanted: Again, turn: int
) -> tuple[ReplayReport, RunResult[Any]]:
    """Run the turns before `turn` again and go on with live models from there, as a fork of the run, which is kept.

    Return the comparison of the cells before it, and what the run came to. Raise what `fork_run` raises.
    """
    if not kept.settings.keep_recording:
        raise ConfigError("what a live replay ran again is compared from its recording: leave out --no-keep-recording")
    began = time.monotonic()
    with opened_run(kept.settings.state_dir, wanted.run) as path:  # once: the fork will be the last run
        going_on = GoOn(run=str(path), given=wanted.given, context=wanted.context)
        result = await fork_run(kept, listeners, going_on, at=turn - 1)
        with (
            Recording(path) as then,
            Recording(result.recording / EVENTS_FILE) as now,
        ):
            report = ReplayReport(
                run=then.started.run,
                replay=result.run,
                recording=str(result.recording),
                comparison=await asyncio.to_thread(compare_runs, then, now, until_turn=turn - 1),
                changed=[event.message for event in map(now.event, now.root.others) if isinstance(event, Notice)],
                seconds=time.monotonic() - began,
            )
    return report, result


def _settings(then: Recording, own: Settings, notes: list[str], wanted: Again) -> Settings:
    """Return what counts for the replay. The recorded models are names alone, as nothing asks them."""
    given = {*wanted.given, "model", "sub_model"}
    led = recorded_settings(then, own, given=given, tell=notes.append)
    return replace(led, model=then.started.model, sub_model=then.started.sub_model, keep_recording=wanted.keep)


def _changed(then: Recording, now: Recording, settings: Settings, context: Stored) -> list[str]:
    box = next((now.expect(seq, SandboxStarted) for seq in now.root.sandboxes), None)
    told = (now.event(seq) for seq in now.root.others)
    profile = next((event for event in told if isinstance(event, ProfileChosen)), None)
    return changed(then, settings, context, sandbox=box, profile=profile)


def _notes(then: Recording, came: Rerun) -> list[str]:
    notes = [*came.late]
    if then.torn:
        notes.append(f"the recording ends in the middle of a line, whose {then.torn} bytes are left out")
    if then.unknown:
        notes.append(
            f"the recording has events that this package does not know: {', '.join(sorted(then.unknown)[:10])}"
        )
    if isinstance(came.error, RecordingEnded):
        notes.append(str(came.error))
    return notes
