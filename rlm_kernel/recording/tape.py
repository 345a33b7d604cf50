"""A recorded run as a tape: what its models and tools gave, session by session, in the order in which it is due.

In memory are places in the file; texts are read when they are given.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

from rlm_kernel import errors
from rlm_kernel.bridge import KnownFailure, Refusal
from rlm_kernel.errors import (
    BudgetExceeded,
    ModelError,
    RecordingEnded,
    RecordingError,
    ReplayMismatch,
    RlmKernelError,
)
from rlm_kernel.events import (
    AnswerGiven,
    AnswerRejected,
    BudgetSpent,
    CellFinished,
    CellInterrupted,
    ModelFailed,
    ModelReplied,
    ProfileChosen,
    QuestionAsked,
    QuestionFailed,
    SandboxStarted,
    SubcallFailed,
    SubcallRefused,
    SubcallReplied,
    SubcallRequested,
    ToolFailed,
    ToolRefused,
    ToolReplied,
    ToolRequested,
)
from rlm_kernel.guest.wire import ErrorCode
from rlm_kernel.models.model import Completion
from rlm_kernel.recording.compare.again import Again
from rlm_kernel.recording.index import Call, Cell, Node, Question, Recording, RootCall
from rlm_kernel.recording.redaction import fits
from rlm_kernel.recording.taped import TapedCall, TapedCell, TapedQuestion
from rlm_kernel.session import CallKey, digest
from rlm_kernel.types import Origin, Usage

_REFUSED_SHOWN = 1_000
_INSTEAD = ModelError | BudgetExceeded | RecordingEnded | ReplayMismatch
_TEXTS = frozenset(["prompt", "arguments"])
_SEEDS = 2**32
_BOXES = 20
_LATEST = 4_000_000_000.0
_CODES = (
    ("the run's budget is spent", ErrorCode.BUDGET_EXCEEDED),
    ("the run's depth limit is reached", ErrorCode.DEPTH_EXCEEDED),
)


def refusal_key(kind: str, asked: str | None, text: str, length: int) -> CallKey:
    """Return what tells one refused call from another, of which only the beginning is recorded."""
    shown = asked and asked[:_REFUSED_SHOWN]
    return CallKey(f"refused {kind} {length}", shown, digest(text[:_REFUSED_SHOWN]))


class Tape:
    """A run's tape up to and with its turn `until_turn`, or the whole of it.

    The question that comes after that turn is on it, unless it `ends_asked`: another one takes its place.
    """

    def __init__(self, recording: Recording, until_turn: int | None = None, *, ends_asked: bool = False) -> None:
        """Raise `RecordingError` for a turn that there is not, and for a run that never had a session."""
        self.recording = recording
        self.run = recording.started.run
        self.end: float = math.inf
        """The number of the first record that is not on it."""
        self._nodes: dict[str, NodeTape] = {}
        root = recording.root
        if not root.contexts:
            raise RecordingError(f"{recording.path} is one plain call of a model: there are no cells to run again")
        turns = [(turn, question) for question in root.questions for turn in question.turns]
        if until_turn is not None:
            if not 0 <= until_turn <= len(turns):
                raise RecordingError(f"{recording.path} has {len(turns)} turns, so there is no turn {until_turn}")
            if until_turn < len(turns):
                turn, question = turns[until_turn]
                is_first = turn is question.turns[0]
                self.end = question.asked if is_first and ends_asked else turn.started

    @property
    def records(self) -> int:
        """How many of the recording's records are on it."""
        return len(self.recording) if self.end == math.inf else int(self.end)

    def node(self, path: str) -> NodeTape | None:
        """Return a session's tape; None if there is no such session."""
        node = self.recording.nodes.get(path)
        if node is None or node.started is None:
            return None
        if path not in self._nodes:
            self._nodes[path] = NodeTape(self, node)
        return self._nodes[path]


class NodeTape:
    """A session's tape."""

    def __init__(self, tape: Tape, node: Node) -> None:
        self.tape = tape
        self.path = node.path
        self._recording = tape.recording
        self._node = node
        self.questions = [self._question(each) for each in node.questions if each.asked < tape.end]
        self._begins = sorted(self._steps())
        self._places = {cell.number: cell for cell in self._cells()}

    @property
    def origin(self) -> str:
        """What names the session."""
        return f"{self.tape.run}/{self.path}" if self.path else self.tape.run

    @property
    def seed(self) -> int | None:
        """The seed of its kernels."""
        if not self._node.sandboxes:
            return None
        seed = self._recording.expect(self._node.sandboxes[0], SandboxStarted).seed
        return seed if seed is not None and 0 <= seed < _SEEDS else None

    def others(self) -> Iterator[tuple[int, object]]:
        """Yield its events that belong to no question, turn or cell, with their numbers."""
        for seq in self._node.others:
            if seq < self.tape.end:
                yield seq, self._recording.event(seq)

    @property
    def profile(self) -> ProfileChosen | None:
        """How its root model was led at first."""
        return next((event for _, event in self.others() if isinstance(event, ProfileChosen)), None)

    @cached_property
    def spent(self) -> list[tuple[int, BudgetSpent]]:
        """Return where its budget was spent, or that of a session above it."""
        found = [(seq, event) for seq, event in self.others() if isinstance(event, BudgetSpent)]
        above = self.tape.node(self.path.rpartition("/")[0]) if self.path else None
        return sorted([*found, *(above.spent if above is not None else [])], key=lambda each: each[0])

    @cached_property
    def _rejected(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = defaultdict(list)
        for seq, event in self.others():
            if isinstance(event, AnswerRejected):
                found[event.ask].append(seq)
        return found

    def asks(self, number: int) -> QuestionAsked:
        """Return a question, by its place."""
        return self._recording.expect(self.questions[number].question.asked, QuestionAsked)

    def checked(self, number: int) -> tuple[dict[str, str], str | None]:
        """Return what was wrong with the answers to a question that were rejected, and the one that was given."""
        question = self.questions[number].question
        events = (self._recording.expect(seq, AnswerRejected) for seq in self._rejected.get(question.number, ()))
        rejected = {event.answer: event.problem for event in events}
        ended = question.ended
        event = self._recording.event(ended) if ended is not None and ended < self.tape.end else None
        return rejected, event.answer if isinstance(event, AnswerGiven) else None

    def next_step(self, after: int) -> int | None:
        """Return where the first request to the root model or cell after a record begins."""
        place = bisect_right(self._begins, after)
        return self._begins[place] if place < len(self._begins) else None

    def place(self, number: int) -> Cell | None:
        """Return a cell, by its number."""
        return self._places.get(number)

    def cell(self, number: int) -> TapedCell:
        """Read what a cell is run again with."""
        cell = self._places[number]
        finished = None if cell.finished is None else self._recording.expect(cell.finished, CellFinished)
        taped = TapedCell(
            number=number,
            at=_moment(self._recording.record(cell.started).at),
            calls=[self._call(call) for call in cell.calls],
            refused={},
            seconds=None if finished is None else finished.seconds,
            status=None if finished is None else finished.status,
        )
        for seq in cell.others:
            match self._recording.event(seq):
                case CellInterrupted() as event if event.step != "replace" and taped.interrupted is None:
                    taped.interrupted = event.seconds, event.reason
                case SubcallRefused() as event:
                    taped.refusals += 1
                    key = refusal_key("llm", event.asked, event.prompt, event.prompt_length)
                    taped.refused[key] = _refusal(event.reason)
                case ToolRefused() as event:
                    taped.refusals += 1
                    key = refusal_key("tool", event.tool, event.arguments, event.arguments_length)
                    taped.refused[key] = _refusal(event.reason)
        return taped

    def again(self) -> Again:
        """Return what its cells are compared with while they run again."""
        boxes = [self._recording.expect(seq, SandboxStarted) for seq in self._node.sandboxes[:_BOXES]]
        return Again(self._recording, boxes, pinned=self.seed is not None)

    def ended(self, cell: Cell) -> tuple[str, str | None]:
        """Return how a cell ended that did: its status, and its error's name."""
        assert cell.finished is not None
        event = self._recording.expect(cell.finished, CellFinished)
        return event.status, event.ename

    def reply(self, asked: RootCall) -> Completion:
        """Return what the root model gave, or raise again what came in its place."""
        assert asked.ended is not None
        record = self._recording.record(asked.ended)
        match record.event:
            case ModelReplied() as event:
                return replace(
                    self._completion(event, record.at),
                    tool_calls=tuple(event.tool_calls),
                    reasoning=event.reasoning,
                    counted=event.counted or event.usage,
                )
            case ModelFailed() as event:
                raise _again(event.error, event.message)
            case other:
                raise errors.RecordingDamaged(f"{self._recording.path}: {type(other).__name__} is no model's reply")

    def may_be(self, call: TapedCall, key: CallKey, text: str) -> bool:
        """Tell whether a call, whose text was redacted, may be the one that is made with `key` and `text`."""
        if not call.redacted or call.key._replace(prompt=key.prompt) != key:
            return False
        match self._recording.event(call.call.requested):
            case SubcallRequested() as event:
                return fits(event.prompt, text)
            case ToolRequested() as event:
                return fits(event.arguments, text)
        return False

    def answer(self, call: TapedCall) -> Completion:
        """Return what a call of a cell was given. Raise `KnownFailure` with what it was told instead."""
        assert call.call.ended is not None
        record = self._recording.record(call.call.ended)
        match record.event:
            case SubcallReplied() as event:
                return replace(self._completion(event, record.at), note=event.note)
            case ToolReplied() as event:
                return Completion(text=event.result, finish_reason="stop", usage=Usage(), served_by="recorded")
            case SubcallFailed() | ToolFailed() as event:
                raise KnownFailure(event.code, event.told, error=event.error, message=event.message)
            case other:
                raise errors.RecordingDamaged(f"{self._recording.path}: {type(other).__name__} is no call's answer")

    def _completion(self, event: ModelReplied | SubcallReplied, at: float) -> Completion:
        return Completion(
            text=event.text,
            finish_reason=event.finish_reason,
            usage=Usage(),
            served_by=event.served_by,
            attempts=0,
            reply_id=event.reply_id,
            cached=self._from(at),
        )

    def _from(self, at: float) -> Origin:
        moment = time.gmtime(_moment(at))
        return Origin(how="recorded", run=self.origin, at=time.strftime("%Y-%m-%dT%H:%M:%SZ", moment))

    def _question(self, question: Question) -> TapedQuestion:
        asked: list[RootCall] = []
        for each in (each for turn in question.turns for each in turn.asked):
            if each.ended is None or each.ended >= self.tape.end:
                break
            asked.append(each)
        over = question.ended is not None and question.ended < self.tape.end
        event = self._recording.event(question.ended) if over and question.ended is not None else None
        cells = [cell.started for turn in question.turns for cell in turn.cells if cell.started < self.tape.end]
        return TapedQuestion(
            question=question,
            asked=asked,
            over=over,
            failed=event.error if isinstance(event, QuestionFailed) else None,
            ends_failing=bool(asked) and isinstance(self._recording.event(asked[-1].ended or 0), ModelFailed),
            last=max([0, *cells, *(each.requested for each in asked)]),
        )

    def _cells(self) -> Iterator[Cell]:
        for question in self._node.questions:
            for turn in question.turns:
                yield from (cell for cell in turn.cells if cell.started < self.tape.end)

    def _steps(self) -> Iterator[int]:
        yield from (cell.started for cell in self._cells())
        for question in self.questions:
            yield from (each.requested for each in question.asked)

    def _call(self, call: Call) -> TapedCall:
        record = self._recording.record(call.requested)
        match record.event:
            case SubcallRequested() as event:
                images = tuple(image.digest for image in event.images)
                key = CallKey(event.kind, event.asked, digest(event.prompt), event.context_digest, images)
            case ToolRequested() as event:
                key = CallKey("tool", event.tool, digest(event.arguments))
            case other:
                raise errors.RecordingDamaged(f"{self._recording.path}: {type(other).__name__} is no call")
        taped = TapedCall(key, call, record.at, redacted=not _TEXTS.isdisjoint(record.redacted))
        if call.kind == "rlm":
            path = f"{self.path}/{call.name}" if self.path else call.name
            taped.node = path if path in self._recording.nodes else None
        if call.ended is not None and call.ended < self.tape.end:
            ended = self._recording.record(call.ended)
            taped.ended_at = ended.at
            taped.answered = getattr(ended.event, "error", "") != "CancelledError"
        return taped


def _moment(at: float) -> float:
    """Return a recorded time as one that there can be."""
    return min(max(at, 0.0), _LATEST)


def _refusal(reason: str) -> Refusal:
    return Refusal(reason, next((code for words, code in _CODES if reason.startswith(words)), ErrorCode.REFUSED))


def _again(name: str, message: str) -> RlmKernelError:
    """Return the error of a recorded name, a `ModelError` where it is none that comes in place of a reply."""
    kind = getattr(errors, name, None)
    if not isinstance(kind, type) or not issubclass(kind, _INSTEAD):
        kind = ModelError
    return kind(message)
