"""Two recordings of one run, cell by cell: the recorded one and the one that it gave when it was run again."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Literal

import msgspec

from rlm_kernel import errors
from rlm_kernel.errors import BudgetExceeded, ModelError, NoAnswer, RecordingEnded
from rlm_kernel.events import (
    AnswerGiven,
    CellStatus,
    QuestionFailed,
    SandboxStarted,
    SubcallRequested,
    ToolRequested,
)
from rlm_kernel.recording.compare.cells import Circumstances, Compared, compare_cells, compare_texts, verdict
from rlm_kernel.recording.compare.difference import Difference
from rlm_kernel.recording.compare.normalise import HOUR, Surroundings
from rlm_kernel.recording.compare.ran import Ran, read_cell
from rlm_kernel.recording.compare.words import Reading
from rlm_kernel.recording.index import Call, Cell, Node, Question, Recording
from rlm_kernel.recording.redaction import fits

Outcome = Literal["identical", "normalised", "varies", "different", "missing", "more", "unfinished"]
OUTCOMES: tuple[Outcome, ...] = ("identical", "normalised", "varies", "different", "missing", "more", "unfinished")
FAILING = frozenset(["different", "missing", "more"])

MOST_DIFFS = 200
MOST_PLACES = 1000
_CALLS_SAID = 20
_MOST_TRIED = 100
_PROMPT_SAID = 100
_COMES_AGAIN = ModelError | NoAnswer | BudgetExceeded
_LONGEST_NAME = 100
_FROM_OUTSIDE: frozenset[CellStatus] = frozenset(["timed_out", "interrupted", "kernel_died"])


class CellCompared(msgspec.Struct, frozen=True, kw_only=True):
    """A cell of the session at `node`, as it was recorded and as it ran again.

    `outcome` is a verdict, or "missing" for a cell that did not run again, "more" for one that was not recorded, and
    "unfinished" for one whose end was not recorded. The other fields are those of `Compared`; `redacted` are the places
    of the recorded cell that something was kept out of.
    """

    node: str
    cell: int
    turn: int
    outcome: Outcome
    rules: list[str] = []
    reads: list[str] = []
    where: list[str] = []
    diff: str = ""
    redacted: list[str] = []
    seconds: float | None = None
    seconds_now: float | None = None


class AnswerCompared(msgspec.Struct, frozen=True, kw_only=True):
    """A question's answer, or its failure, in the session at `node`; the fields are those of `CellCompared`."""

    node: str
    ask: int
    outcome: Outcome
    rules: list[str] = []
    where: list[str] = []
    diff: str = ""


class Comparison(msgspec.Struct, kw_only=True):
    """What comparing a whole run came to. `redacted` says where something was kept out of the recording."""

    cells: list[CellCompared] = []
    answers: list[AnswerCompared] = []
    redacted: list[str] = []

    @property
    def counts(self) -> dict[Outcome, int]:
        """How many cells came to which outcome; those that none came to are left out."""
        counted = Counter(cell.outcome for cell in self.cells)
        return {outcome: counted[outcome] for outcome in OUTCOMES if counted[outcome]}

    @property
    def differs(self) -> bool:
        """Whether anything is different, missing or more."""
        outcomes = [*(cell.outcome for cell in self.cells), *(answer.outcome for answer in self.answers)]
        return not FAILING.isdisjoint(outcomes)


def compare_runs(then: Recording, now: Recording, *, until_turn: int | None = None) -> Comparison:
    """Compare every cell and answer of `then` with those of `now`, the sessions below too.

    Cells are paired by their order; sessions below by the calls that they answer, and calls by content, in order among
    equal ones. With `until_turn` only the turns of the root session up to that one count, and what belongs to them.
    """
    comparison = Comparison(redacted=list(_redacted(then)))
    waiting, shown = deque([("", "")]), count()
    while waiting:
        paths = waiting.popleft()
        nodes = then.nodes.get(paths[0]), now.nodes.get(paths[1])
        if nodes[0] is not None:
            pair = _Nodes(then, now, nodes[0], nodes[1] or Node(paths[1]), until_turn if not paths[0] else None)
            waiting.extend(pair.compare(comparison, shown))
    return comparison


class _Nodes:
    """A recorded session, and the same session as it ran again."""

    def __init__(self, then: Recording, now: Recording, recorded: Node, again: Node, until_turn: int | None) -> None:
        self._then = then
        self._now = now
        self._recorded = recorded
        self._again = again
        self._until = until_turn
        boxes = [_sandboxes(*side) for side in ((then, recorded), (now, again))]
        seeds = [{box.seed for box in side} for side in boxes]
        self._own = [sorted(names_of(side)) for side in boxes]
        self._reading = Reading(pinned=seeds[0] == seeds[1] and None not in seeds[0])
        self._varies: set[int] = set()
        self._below: list[tuple[str, str]] = []

    def compare(self, comparison: Comparison, shown: Iterator[int]) -> list[tuple[str, str]]:
        """Add all of this session to `comparison`, and return the pairs of sessions below it.

        `shown` counts the differences that are told.
        """
        again = _cells(self._again, self._until)
        for index, cell in enumerate(cells := _cells(self._recorded, self._until)):
            compared = self._cell(cell, again[index] if index < len(again) else None)
            if compared.diff and next(shown) >= MOST_DIFFS:
                compared = msgspec.structs.replace(compared, diff="")
            comparison.cells.append(compared)
        for cell in again[len(cells) :]:
            more = CellCompared(node=self._recorded.path, cell=cell.number, turn=cell.turn, outcome="more")
            comparison.cells.append(more)
        if self._until is None:
            comparison.answers += self._answers()
        return self._below

    def _cell(self, recorded: Cell, again: Cell | None) -> CellCompared:
        then = read_cell(self._then, recorded)
        reads = self._reading.take(recorded.number, then.code, [*unpinned(self._then, recorded, then)])
        compared = CellCompared(
            node=self._recorded.path,
            cell=recorded.number,
            turn=recorded.turn,
            outcome="unfinished" if then.status is None else "missing",
            reads=reads,
            redacted=[*then.redacted],
            seconds=then.seconds,
        )
        if then.status is None or again is None:
            return compared
        now = read_cell(self._now, again)
        around = Circumstances(
            then=self._surroundings(then, None), now=self._surroundings(then, now), reads=reads,
            parallel=self._reading.parallel,
        )  # fmt: skip
        found = self._with_calls(compare_cells(then, now, around), recorded, again)
        if found.verdict == "varies":
            self._varies.add(recorded.number)
        return msgspec.structs.replace(
            compared,
            outcome=found.verdict,
            rules=found.rules,
            where=found.where,
            diff=found.diff,
            seconds_now=now.seconds,
        )

    def _surroundings(self, then: Ran, now: Ran | None) -> Surroundings:
        spans = [(self._then.first_at, max(then.at, self._then.first_at) + then.seconds)]
        if now is not None:
            spans.append((self._now.first_at, now.at + now.seconds))
        return surroundings(spans, self._own[now is not None])

    def _with_calls(self, found: Compared, recorded: Cell, again: Cell) -> Compared:
        """Pair the calls of both cells; one without its like is a difference of the cell."""
        unpaired: dict[bytes, deque[Call]] = defaultdict(deque)
        more: list[Call] = []
        below: dict[str, str] = {}
        for call in recorded.calls:
            unpaired[_content(self._then, call)].append(call)
        for call in again.calls:
            like = unpaired.get(_content(self._now, call))
            if not like:
                more.append(call)
            elif (pair := like.popleft()).kind == "rlm":
                below[pair.name] = _path(self._again, call)
        fewer = [call for calls in unpaired.values() for call in calls]
        for one, other in (pairs := list(self._redacted_pairs(fewer, more))):
            fewer.remove(one)
            more.remove(other)
            if one.kind == "rlm":
                below[one.name] = _path(self._again, other)
        if pairs:
            word = "normalised" if found.verdict == "identical" else found.verdict
            found = msgspec.structs.replace(found, verdict=word, rules=sorted({*found.rules, "redacted"}))
        self._below += [
            (_path(self._recorded, call), below[call.name]) for call in recorded.calls if call.name in below
        ]
        if not (more or fewer):
            return found
        calls = verdict([], [Difference("calls", _listed(self._then, fewer), _listed(self._now, more))], found.reads)
        worse = found.verdict if found.verdict == "different" else calls.verdict
        return msgspec.structs.replace(
            found,
            verdict=worse,
            where=[*found.where, "calls"],
            diff="\n".join(filter(None, [found.diff, calls.diff])),
        )

    def _redacted_pairs(self, fewer: list[Call], more: list[Call]) -> Iterator[tuple[Call, Call]]:
        """Yield the calls that are the same as far as one can tell of what was not kept out of the recording."""
        left = more[:_MOST_TRIED]
        for one in fewer[:_MOST_TRIED]:
            if not _is_redacted(self._then.line(one.requested)):
                continue
            text = _text(self._then, one)
            other = next((call for call in left if call.kind == one.kind and fits(text, _text(self._now, call))), None)
            if other is not None:
                left.remove(other)
                yield one, other

    def _answers(self) -> Iterator[AnswerCompared]:
        for index, question in enumerate(self._recorded.questions):
            if question.ended is None:
                continue
            again = self._again.questions[index] if index < len(self._again.questions) else None
            here = Surroundings(spans=[(self._then.first_at, self._then.last_at)])
            both = Surroundings(spans=[*here.spans, (self._now.first_at, self._now.last_at)])
            cells = [cell.number for turn in question.turns for cell in turn.cells]
            reads = ["what its last cell read"] if cells and cells[-1] in self._varies else []
            redacted = _is_redacted(self._then.line(question.ended))
            if _is_broken_off(self._then, question) and _error(self._now, again) == RecordingEnded.__name__:
                yield AnswerCompared(node=self._recorded.path, ask=question.number, outcome="unfinished")
                continue
            around = Circumstances(then=here, now=both, reads=reads, redacted=redacted)
            told = _answer(self._then, question), _answer(self._now, again)
            found = compare_texts(f"answer {question.number}", *told, around)
            yield AnswerCompared(
                node=self._recorded.path,
                ask=question.number,
                outcome=found.verdict,
                rules=found.rules,
                where=found.where,
                diff=found.diff,
            )


def unpinned(recording: Recording, cell: Cell, ran: Ran) -> Iterator[str]:
    """Yield what a recorded cell has, beside what its code reads, that is not the same when it runs again."""
    if ran.status in _FROM_OUTSIDE:
        yield f"the moment of its end, as it {ran.status.replace('_', ' ')}"
    if any(place.startswith("code") for place in ran.redacted):
        yield "code that something was kept out of"
    if any(_is_redacted(recording.line(call.ended)) for call in cell.calls if call.ended is not None):
        yield "an answer that something was kept out of"


def surroundings(spans: Iterable[tuple[float, float]], own: Iterable[str]) -> Surroundings:
    """Return where cells ran, by what their clock may have shown and what names their session."""
    return Surroundings(spans=[(max(first, last - 24 * HOUR), last) for first, last in spans], own=sorted(own))


def _cells(node: Node, until_turn: int | None) -> list[Cell]:
    return [
        cell
        for question in node.questions
        for turn in question.turns
        for cell in turn.cells
        if until_turn is None or turn.number <= until_turn
    ]


def _sandboxes(recording: Recording, node: Node) -> list[SandboxStarted]:
    return [recording.expect(seq, SandboxStarted) for seq in node.sandboxes[:20]]


def names_of(boxes: Iterable[SandboxStarted]) -> set[str]:
    """Return what names a session by its containers."""
    names = (name for box in boxes for name in (str(box.uid), box.container, box.container[:12]))
    return {name for name in names if len(name) <= _LONGEST_NAME}


def _path(node: Node, call: Call) -> str:
    return f"{node.path}/{call.name}" if node.path else call.name


def _content(recording: Recording, call: Call) -> bytes:
    """Return a digest of what makes calls equal: what is asked of whom, with which context and images."""
    request = recording.event(call.requested)
    told: list[object] = [call.kind]
    if isinstance(request, SubcallRequested):
        told += [request.asked, request.prompt, request.context_digest, [image.digest for image in request.images]]
    elif isinstance(request, ToolRequested):
        told += [request.tool, request.arguments]
    return hashlib.sha256(msgspec.json.encode(told)).digest()


def _text(recording: Recording, call: Call) -> str:
    request = recording.event(call.requested)
    match request:
        case SubcallRequested():
            return request.prompt
        case ToolRequested():
            return f"{request.tool} {request.arguments}"
    return ""


def _said(recording: Recording, call: Call) -> str:
    return f"{call.kind}: {' '.join(_text(recording, call)[:_PROMPT_SAID].split())}"


def _listed(recording: Recording, calls: list[Call]) -> str:
    more = len(calls) - _CALLS_SAID
    return "\n".join(
        [*(_said(recording, call) for call in calls[:_CALLS_SAID]), *([f"… {more} more"] if more > 0 else [])]
    )


def _answer(recording: Recording, question: Question | None) -> str:
    event = None if question is None or question.ended is None else recording.event(question.ended)
    match event:
        case AnswerGiven():
            return f"{event.answer}\n({event.source})" if event.reason is None else f"{event.answer}\n({event.reason})"
        case QuestionFailed():
            return f"no answer: {event.error}: {event.message}"
    return "no answer"


def _is_broken_off(recording: Recording, question: Question) -> bool:
    """Tell whether a question ended by something that does not come again when its replies and cells do."""
    name = _error(recording, question)
    kind = getattr(errors, name or "", None)
    return name is not None and not (isinstance(kind, type) and issubclass(kind, _COMES_AGAIN))


def _error(recording: Recording, question: Question | None) -> str | None:
    event = None if question is None or question.ended is None else recording.event(question.ended)
    return event.error if isinstance(event, QuestionFailed) else None


def _is_redacted(line: bytes) -> bool:
    return b'"redacted":[' in line


def _redacted(recording: Recording) -> Iterator[str]:
    """Say where something was kept out of a recording, the first thousand places."""
    said = 0
    for seq in range(len(recording)):
        if said < MOST_PLACES and _is_redacted(recording.line(seq)):
            record = recording.record(seq)
            event = record.event
            of = "".join(f", {name} {getattr(event, name)}" for name in ("cell", "call") if hasattr(event, name))
            for place in record.redacted[: MOST_PLACES - said]:
                said += 1
                yield f"line {seq + 1}, {type(event).__name__}{of}: {place}"
