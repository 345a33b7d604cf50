"""Going on from a recorded run: `resume_run` where it was cut off, `fork_run` from any of its turns."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlm_kernel.assembly.asked import Asked
from rlm_kernel.assembly.contexts import Context
from rlm_kernel.assembly.kept import Kept
from rlm_kernel.assembly.rerun.recorded import LIMITS, lifted, recorded_context, recorded_settings
from rlm_kernel.assembly.rerun.rerun import Plan, rerun
from rlm_kernel.assembly.result import RunResult
from rlm_kernel.assembly.sinks import Listeners
from rlm_kernel.config import SETTINGS, Settings
from rlm_kernel.errors import BudgetExceeded, ConfigError, NotResumable, RecordingError
from rlm_kernel.events import AnswerGiven, AnyEvent, BudgetSpent, ModelReplied, SubcallReplied, ToolReplied, WentLive
from rlm_kernel.recording import EVENTS_FILE, Recording, Used, is_written, opened_run, summaries, used_by
from rlm_kernel.recording.folder import is_run_id

_NAMES_SAID = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class GoOn:
    """Which recorded run to go on from, by what `opened_run` takes, and how.

    `given` names the settings that the user has chosen for this, which go before the recorded ones. `context` is given
    again, or another one. With `anyway` a state that is not as it was is no reason to stop.
    """

    run: str
    given: Collection[str] = ()
    context: Context | None = None
    anyway: bool = False


async def resume_run(kept: Kept, listeners: Listeners, wanted: GoOn) -> RunResult[Any]:
    """Go on where the recording of a killed run ends, as a new run, and return what its open question comes to.

    Raise `NotResumable`, `RecordingError`, `ContextMissing`, `ConfigError`, `BudgetExceeded` where what it may use is
    used up, `StateDiverged`, and what `RLM.acompletion` raises.
    """
    state = kept.settings.state_dir
    with (
        opened_run(state, wanted.run) as path,
        await asyncio.to_thread(lambda: _latest(_furthest(Recording(path)), state)) as recording,
    ):
        try:
            _check_open(recording)
        except NotResumable as error:
            if recording.path == path:
                raise
            raise NotResumable(f"what {path.parent.name} holds was gone on with: {error}") from None
        return await _go_on(kept, listeners, wanted, recording, Plan(how="resume", anyway=wanted.anyway))


async def fork_run(
    kept: Kept, listeners: Listeners, wanted: GoOn, at: int | None = None, question: Asked | None = None
) -> RunResult[Any]:
    """Go on from the state after the run's turn `at`, by default its last one, as a new run with a budget of its own.

    `question` is asked in place of what the run was asked. Raise what `resume_run` does but `NotResumable`.
    """
    with (
        opened_run(kept.settings.state_dir, wanted.run) as path,
        await asyncio.to_thread(Recording, path) as recording,
    ):
        _check_turn(recording, at, question)
        plan = Plan(how="fork", until_turn=at, question=question, anyway=wanted.anyway)
        return await _go_on(kept, listeners, wanted, recording, plan)


def _furthest(recording: Recording) -> Recording:
    """Return the recording to resume: the one that this run was to go on from, if it had not come to that one's end.

    What it had by then is only a part of that one, which holds answers beyond it.
    """
    while (origin := recording.started.origin) is not None and origin.how == "resume" and not _has_more(recording):
        try:
            earlier = Recording(_beside(recording.path, origin.run))
        except RecordingError:  # it is gone, or is none: what this one holds is all that there is
            break
        if earlier.head != origin.head:
            earlier.close()
            break
        recording.close()
        recording = earlier
    return recording


def _beside(path: Path, run: str) -> Path:
    """Return where a run would be whose folder lies beside that of the recording at `path`."""
    if not is_run_id(run):
        raise RecordingError(f"{run[:100]!r} is no run's id")
    return path.absolute().parent.parent / run / EVENTS_FILE


def _latest(recording: Recording, state_dir: Path) -> Recording:
    """Return the recording to resume: the one of the last run that went on from this one, if one did and came further.

    So a run that is resumed again by its first name pays nothing twice.
    """
    while (later := _later(recording, state_dir)) is not None:
        recording.close()
        recording = later
    return recording


def _later(recording: Recording, state_dir: Path) -> Recording | None:
    for summary in summaries(state_dir):
        origin = summary.origin
        if origin is None or origin.how != "resume" or origin.run != recording.started.run:
            continue
        if origin.head != recording.head:
            continue
        try:
            later = Recording(summary.folder / EVENTS_FILE)
        except RecordingError:  # it is damaged, or was just removed
            continue
        if _has_more(later):
            return later
        later.close()
    return None


def _goes_on(recording: Recording) -> bool:
    """Tell whether a run goes on, or did when it was read: it may have ended since."""
    return is_written(recording.path) or recording.has_grown


def _has_more(recording: Recording) -> bool:
    """Tell whether a resumed run goes on, has its answer, or was asking live models; one that failed, with success."""
    finished = recording.finished
    if _goes_on(recording) or (finished is not None and finished.answer is not None):
        return True
    live = next((seq for seq in recording.root.others if isinstance(recording.event(seq), WentLive)), None)
    if live is None or finished is None:
        return live is not None
    return any(_is_new(recording.event(seq)) for seq in range(live + 1, len(recording)))


def _is_new(event: AnyEvent) -> bool:
    if isinstance(event, ToolReplied):
        return True
    return isinstance(event, ModelReplied | SubcallReplied) and (event.cached is None or event.cached.how != "recorded")


async def _go_on(kept: Kept, listeners: Listeners, wanted: GoOn, recording: Recording, plan: Plan) -> RunResult[Any]:
    notices: list[str] = []
    settings = recorded_settings(recording, kept.settings, given=wanted.given, tell=notices.append)
    notices += lifted(settings, kept.settings)
    _check_models(recording, settings, wanted.given)
    _check_tools(recording, {tool.name for tool in kept.tools})
    if plan.how == "resume":
        plan = replace(plan, used=await asyncio.to_thread(used_by, recording))
        _check_room(recording, plan.used, settings)
    context = await recorded_context(kept.store, recording, settings.memory, wanted.context)
    done = await rerun(kept.under(settings), recording, context, replace(plan, notices=tuple(notices)), listeners)
    if done.result is None:
        raise done.error or RecordingError(f"{recording.path} holds nothing to go on from")
    return done.result


def _check_open(recording: Recording) -> None:
    """Raise `NotResumable` for a run that was not cut off in a question."""
    run = recording.started.run
    if _goes_on(recording):
        raise NotResumable(f"the run {run} still goes on: wait for its end, or end its process")
    questions = recording.root.questions
    turns = sum(len(question.turns) for question in questions)
    fork = f"`rlm-kernel fork {run} --at {turns}`" if turns else "`rlm-kernel run`"
    if (finished := recording.finished) is not None:
        if finished.answer is not None:
            raise NotResumable(
                f"the run {run} has its answer: see it with `rlm-kernel runs show {run}`, or go on from any of its "
                f"turns with {fork} and a --question"
            )
        why = finished.error or finished.status
        raise NotResumable(f"the run {run} was not cut off, it ended ({why}): try its last step again with {fork}")
    if not questions:
        raise NotResumable(f"the run {run} was cut off before it was asked anything: ask it anew with `rlm-kernel run`")
    if questions[-1].ended is not None:
        raise NotResumable(
            f"no question of the run {run} is open, its {len(questions)} have ended: ask another one with "
            f"{fork} --question"
        )


def _check_turn(recording: Recording, at: int | None, question: Asked | None) -> None:
    """Raise `ConfigError` for a turn that there is not, and for the one that gave the last answer, with no question."""
    questions = recording.root.questions
    run, last = recording.started.run, sum(len(asked.turns) for asked in questions)
    if at is not None and not 0 <= at <= last:
        has = f"it has the turns 1 to {last}" if last else "it has no turn"
        raise ConfigError(f"the run {run} has no turn {at}: {has}, and 0 is its beginning")
    if question is not None or not questions or at not in (None, last):
        return
    ended = questions[-1].ended
    if ended is not None and isinstance(recording.event(ended), AnswerGiven):
        raise ConfigError(
            f"the run {run} has given its answer in turn {last}, its last: go on from an earlier one with --at, or ask "
            "something with --question"
        )


def _check_models(recording: Recording, settings: Settings, given: Collection[str]) -> None:
    """Raise `ConfigError` where a recorded model does not count and none is chosen in its place."""
    started = recording.started
    for name, recorded in (("model", started.model), ("sub_model", started.sub_model)):
        if name not in given and getattr(settings, name) != recorded:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"the recorded model {recorded[:200]!r} can't be taken over: choose one with {option}")


def _check_tools(recording: Recording, names: Collection[str]) -> None:
    """Raise `ConfigError` for host tools that the run was recorded with and that are not there."""
    recorded = [str(tool.get("name"))[:100] for tool in recording.started.tools]
    if missing := [name for name in recorded if name not in names]:
        raise ConfigError(
            f"the run was recorded with host tools that are not here: {', '.join(missing[:_NAMES_SAID])}. Go on from "
            "Python, with RLM(tools=[...]).resume(run) or .fork(run, at=...)"
        )


def _check_room(recording: Recording, used: Used, settings: Settings) -> None:
    """Raise `BudgetExceeded` where nothing is left of what the whole run may use."""
    total = used.total
    amounts = {
        "max_input_tokens": total.input_tokens,
        "max_output_tokens": total.output_tokens,
        "max_total_tokens": total.total_tokens,
        "max_cost": total.cost_usd or 0.0,
        "run_timeout": used.seconds,
    }
    for seq in recording.root.others:
        event = recording.event(seq)
        if isinstance(event, BudgetSpent) and event.limit in LIMITS:
            amounts[event.limit] = max(amounts.get(event.limit, 0.0), event.allowed)
    for setting in SETTINGS:
        limit, amount = getattr(settings, setting.name), amounts.get(setting.name)
        if limit is not None and amount is not None and amount >= limit > 0:
            raise BudgetExceeded(
                f"The recorded run has used up its limit of {setting.option} {setting.shown(limit)}.",
                limit=setting.name,
                way_out=f"Allow more with {setting.option}.",
            )
