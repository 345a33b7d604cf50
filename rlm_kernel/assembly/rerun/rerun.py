"""`rerun`: a recorded run again, by the ordinary controller and session over recorded models, as a new run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rlm_kernel.assembly.asked import Asked
from rlm_kernel.assembly.asking import open_run
from rlm_kernel.assembly.contexts import Context
from rlm_kernel.assembly.kept import Kept
from rlm_kernel.assembly.models import Models
from rlm_kernel.assembly.rerun.announced import AnnouncedTools
from rlm_kernel.assembly.rerun.noticing import Noticing
from rlm_kernel.assembly.rerun.played import Missing, PlayedSession, Playing
from rlm_kernel.assembly.result import RunResult
from rlm_kernel.assembly.run import Run
from rlm_kernel.assembly.sinks import Listeners
from rlm_kernel.assembly.start import Start
from rlm_kernel.budget import Budget, Prices
from rlm_kernel.config import Settings
from rlm_kernel.errors import ConfigError, RecordingDamaged, RecordingError, RlmKernelError
from rlm_kernel.events import RunOrigin, TreeSink
from rlm_kernel.recording import Recording, Used
from rlm_kernel.recording.log import line_digest
from rlm_kernel.recording.tape import NodeTape, Tape
from rlm_kernel.sandbox.stored import Stored
from rlm_kernel.tools import Toolbox
from rlm_kernel.types import JSON

if TYPE_CHECKING:
    from rlm_kernel.assembly.answers import SchemaAnswer

__all__ = ["Missing", "Plan", "Rerun", "rerun"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What becomes of a recorded run.

    "replay": all of it runs again, and behind it is nothing: no key, no network, no limit. "resume": all of it, then
    live models, and what it had used counts. "fork": it up to turn `until_turn` (None: all), then live models and a
    budget of its own. `question` is asked once the recorded ones are over, or in place of the rest of the one that
    `until_turn` cuts. `used` is charged to the run's budget at its first live call, and `notices` are recorded at its
    beginning. With models behind it, a session whose cell does not run again as it had ends the run, unless `anyway`.
    """

    how: Literal["replay", "resume", "fork"]
    until_turn: int | None = None
    question: Asked | None = None
    used: Used = field(default_factory=Used)
    notices: tuple[str, ...] = ()
    anyway: bool = False


@dataclass(slots=True, kw_only=True)
class Rerun:
    """What it came to: the new run and its folder, which is gone by now if it was not to be kept.

    `result` is that of the last question, `error` why a replay has none: the recorded failure once more, or
    `RecordingEnded` where the recorded run was killed or cancelled. `missing` are the calls that were not on the tape,
    `late` tells of answers whose recorded order could not be kept. `nodes` says which recorded session each of the new
    run's is, by their paths: calls that run in parallel may get other names.
    """

    run: str = ""
    recording: Path = Path()
    result: RunResult[Any] | None = None
    error: RlmKernelError | None = None
    missing: list[Missing] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    nodes: dict[str, str] = field(default_factory=dict)


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
    tape = Tape(recording, plan.until_turn, ends_asked=plan.question is not None)
    root = tape.node("")
    questions = [] if root is None else list(_questions(root, recording.started.question, plan))
    if root is None or not questions:
        raise RecordingError(f"{recording.path} holds no question to ask again")
    playing = Playing(
        tape=tape,
        is_live=plan.how != "replay",
        breaks_off=plan.question is not None,
        cell_timeout=kept.settings.cell_timeout,
        is_strict=plan.how != "replay" and not plan.anyway,
        used=plan.used,
    )
    start = _Recorded(recording, plan, PlayedSession(playing, root), read)
    came = Rerun(missing=playing.missing, late=playing.late, nodes=playing.nodes)
    only = questions[0].question if len(questions) == 1 and recording.started.question else ""
    async with open_run(kept, listeners, context, only, start=start) as run:
        came.run, came.recording = run.run.id, run.log.folder
        playing.budget, playing.events = run.budget, run.log.path
        for number, asked in enumerate(questions):
            start.session.ask(number)
            came.result = came.error = None
            try:
                came.result = await run.ask(asked)
            except RlmKernelError as error:
                if playing.is_live and number == len(questions) - 1:
                    raise
                came.error = error
    return came


def _questions(root: NodeTape, first: str, plan: Plan) -> Iterator[Asked]:
    """Yield the questions of a recorded session, the one that it was started for if it came to none, and a new one."""
    for number in range(len(root.questions)):
        asked = root.asks(number)
        if asked.schema is not None and not isinstance(asked.schema, Mapping):
            raise RecordingDamaged("the schema of a recorded question is none")
        try:
            question = Asked.of(asked.question)
            yield question if asked.schema is None else replace(question, check=_check(root, number, asked.schema))
        except ConfigError as error:
            raise RecordingDamaged(f"question {number + 1} of the recording can't be asked: {error}") from error
    if plan.question is not None:
        yield plan.question
    elif not root.questions and first.strip() and plan.how != "replay":
        yield Asked.of(first)


def _check(root: NodeTape, number: int, schema: Mapping[str, JSON]) -> SchemaAnswer:
    from rlm_kernel.assembly.answers import RecordedAnswer  # noqa: PLC0415 - as in `Asked.of`

    return RecordedAnswer(schema, *root.checked(number))


class _Recorded(Start):
    """The beginning of a run that goes on from a recording; a replay has no models, no tools and no limits."""

    def __init__(
        self, recording: Recording, plan: Plan, session: PlayedSession, read: Callable[[Path], None] | None
    ) -> None:
        self.played = self.session = session
        self.origin = RunOrigin(
            how=plan.how,
            run=recording.started.run,
            records=(taken := session.tape.tape.records),
            head=line_digest(recording.line(taken - 1)),
            turn=plan.until_turn,
            usage=plan.used.usage,
            subcalls=plan.used.subcalls,
            seconds=plan.used.seconds,
        )
        self._recording = recording
        self._notices = plan.notices
        self._started = recording.started
        self._replays = plan.how == "replay"
        self._read = read

    def models(self, kept: Kept) -> AbstractAsyncContextManager[Models]:
        if not self._replays:
            return super().models(kept)
        return Models.recorded(kept.settings, self._started.model, self._started.sub_model)

    def tools(self, kept: Kept, stored: Stored) -> Toolbox:
        return AnnouncedTools(self._started.tools) if self._replays else super().tools(kept, stored)

    def budget(self, kept: Kept, prices: Mapping[str, Prices | None], run: Run) -> Budget:
        return Budget(sink=run) if self._replays else super().budget(kept, prices, run)

    def sink(self, sink: TreeSink, settings: Settings, stored: Stored) -> TreeSink:
        return Noticing(sink, self._recording, self._notices, settings, stored)

    def recorded(self, path: Path) -> None:
        if self._read is not None:
            self._read(path)
