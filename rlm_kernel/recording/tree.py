"""The call tree of a recording: questions, turns, cells, calls and the sessions below, with what each took.

It is folded as it is built, so that a run of any length is a tree of some dozen branches: like calls are one branch, as
are the turns in the middle of many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal, TypeAlias, TypeVar

from rlm_kernel.errors import RecordingError
from rlm_kernel.events import AnswerGiven, CellFinished, QuestionAsked, QuestionFailed, RunFinished
from rlm_kernel.recording.calls import CallFigures, Calls, Kind, Sums
from rlm_kernel.recording.index import Call, Cell, Node, Question, Recording, Turn

BranchKind: TypeAlias = Kind | Literal["session", "question", "turn", "cell"]
_WITHOUT_ANSWER = {"CancelledError": "cancelled", "RecordingEnded": "broken-off"}
LISTED_CALLS = 3
"""More like calls of a cell than these are one branch."""
LISTED = 6
"""Of more branches than twice these, beside each other, those in the middle are one."""
OPEN_SESSIONS = 4
"""In a run with more sessions below, each of them is one branch without more."""
DEEPEST = 20
"""Sessions that are deeper are shown as calls: the tree of an untrue recording must end too."""
T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Branch:
    """A part of a run. `name` is its number or its call's name, `text` what it is about: a question, a model, an error.

    A folded one stands for `count` like parts, the calls of a group or the turns in between. `seconds` is how long it
    took, all of them together; of a group's calls `middle` is the median, of a turn `asking` what its model took.
    `until` is the name of the last of folded turns. `sums` are of all that is in it, with the call that a session
    `answers`, if any.
    """

    kind: BranchKind
    name: str = ""
    text: str = ""
    status: str = ""
    count: int = 1
    seconds: float | None = None
    middle: float | None = None
    asking: float | None = None
    until: str = ""
    answers: bool = False
    sums: Sums = field(default_factory=Sums)
    below: list[Branch] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What is to be seen unfolded: all of it (`full`), or only a session (`node`), one of its turns or its cells."""

    full: bool = False
    node: str = ""
    turn: int | None = None
    cell: int | None = None

    @property
    def all_of_it(self) -> bool:
        """Whether what is seen is unfolded."""
        return self.full or self.turn is not None or self.cell is not None


def call_tree(recording: Recording, opened: Opened | None = None) -> Branch:
    """Return the tree of a recording, or the part of it that is asked for.

    Raise `RecordingError` if it has no such part, `RecordingDamaged` for a record that is not what it should be.
    """
    opened = opened or Opened()
    node = recording.nodes.get(opened.node)
    if node is None:
        raise RecordingError(
            f"{recording.path} has no session {opened.node[:100]!r}; those below are named as s3, s3/s1"
        )
    growing = _Growing(recording, opened)
    if opened.cell is not None:
        if (cell := node.cells.get(opened.cell)) is None:
            raise RecordingError(f"{recording.path} has no cell {opened.cell} in the session {opened.node!r}")
        return growing.cell(node, cell)
    if opened.turn is not None:
        return growing.one_turn(node, opened.turn)
    return growing.session(node)


class _Growing:
    def __init__(self, recording: Recording, opened: Opened) -> None:
        self._recording = recording
        self._calls = Calls(recording)
        self._all = opened.all_of_it
        self._sessions_open = self._all or len(recording.nodes) - 1 <= OPEN_SESSIONS

    def session(self, node: Node, call: CallFigures | None = None) -> Branch:
        """Return a session; `call` is the one that it answers."""
        branch = Branch(kind="session", name=node.path, status="broken-off")
        if call is not None:
            branch.seconds, branch.text, branch.answers = call.seconds, call.problem, True
            branch.sums.add(call)
        if node.finished is not None:
            end = self._recording.expect(node.finished, RunFinished)
            branch.status, branch.seconds = end.status, end.seconds
            branch.text = branch.text or (f"{end.error}: {end.message or ''}" if end.error else "")
        branch.below = self._folded(node.questions, lambda question: self.question(node, question), branch)
        if node.path and len(branch.below) == 1:
            branch.below = branch.below[0].below  # its only question is that of the call
        if not self._sessions_open and node.path:
            branch.below = []
        return branch

    def question(self, node: Node, question: Question) -> Branch:
        asked = self._recording.expect(question.asked, QuestionAsked)
        branch = Branch(kind="question", name=str(question.number), text=asked.question, status="broken-off")
        if question.ended is not None:
            match self._recording.event(question.ended):
                case AnswerGiven(reason=reason):
                    branch.status = "answered" if reason is None else "partial"
                case QuestionFailed(error=error):
                    branch.status = _WITHOUT_ANSWER.get(error, "failed")
                case _:
                    pass
        branch.seconds = self._between(question.asked, question.ended)
        ends = [turn.started for turn in question.turns[1:]] + [question.ended]
        turns = list(zip(question.turns, ends, strict=False))
        branch.below = self._folded(turns, lambda turn: self.turn(node, *turn), branch)
        return branch

    def one_turn(self, node: Node, number: int) -> Branch:
        for question in node.questions:
            for turn, after in zip(question.turns, [*question.turns[1:], None], strict=True):
                if turn.number == number:
                    return self.turn(node, turn, question.ended if after is None else after.started)
        raise RecordingError(f"{self._recording.path} has no turn {number} in the session {node.path!r}")

    def turn(self, node: Node, turn: Turn, end: int | None) -> Branch:
        branch = Branch(kind="turn", name=str(turn.number), seconds=self._between(turn.started, end))
        for asked in turn.asked:
            figures = self._calls.asked(node, asked)
            branch.sums.add(figures)
            branch.asking = (branch.asking or 0.0) + (figures.seconds or 0.0)
            if self._all or figures.state != "ok":
                branch.below.append(_of_call(figures))
        branch.below += self._folded(turn.cells, lambda cell: self.cell(node, cell), branch)
        return branch

    def cell(self, node: Node, cell: Cell) -> Branch:
        branch = Branch(kind="cell", name=str(cell.number), status="open")
        if cell.finished is not None:
            end = self._recording.expect(cell.finished, CellFinished)
            branch.status, branch.seconds, branch.text = end.status, end.seconds, end.ename or ""
        groups: dict[tuple[str, str], list[CallFigures]] = {}
        calls = {call.name: call for call in cell.calls}
        for call in cell.calls:
            figures = self._calls.of(node, call)
            groups.setdefault((figures.kind, figures.label), []).append(figures)
        for group in groups.values():
            for part in self._group(node, group, calls):
                branch.sums += part.sums
                branch.below.append(part)
        return branch

    def _group(self, node: Node, group: Sequence[CallFigures], calls: dict[str, Call]) -> Iterable[Branch]:
        parts = (self._call(node, figures) for figures in group)
        if self._all or len(group) <= LISTED_CALLS:
            yield from parts
            return
        folded = Branch(kind=group[0].kind, text=group[0].label, count=len(group))
        times = [figures.seconds for figures in group if figures.seconds is not None]
        folded.middle, folded.seconds = (median(times), sum(times)) if times else (None, None)
        for part in parts:
            folded.sums += part.sums
        yield folded

    def _call(self, node: Node, figures: CallFigures) -> Branch:
        path = f"{node.path}/{figures.name}" if node.path else figures.name
        there = figures.kind == "rlm" and path.count("/") < DEEPEST
        below = self._recording.nodes.get(path) if there else None
        return _of_call(figures) if below is None else self.session(below, figures)

    def _folded(self, parts: Sequence[T], grown: Callable[[T], Branch], above: Branch) -> list[Branch]:
        """Return the branches of `parts`, those in the middle of many as one, and add them to the sums `above`."""
        first, last = LISTED, len(parts) - LISTED
        if self._all or len(parts) <= 2 * LISTED + 1:
            first = last = len(parts)
        branches: list[Branch] = []
        between: Branch | None = None
        for index, part in enumerate(parts):
            branch = grown(part)
            above.sums += branch.sums
            if not first <= index < last:
                branches.append(branch)
                continue
            if between is None:
                between = Branch(kind=branch.kind, name=branch.name, count=0, seconds=0.0)
                branches.append(between)
            between.count += 1
            between.until = branch.name
            between.seconds = (between.seconds or 0.0) + (branch.seconds or 0.0)
            between.sums += branch.sums
        return branches

    def _between(self, begin: int, end: int | None) -> float:
        """Return the seconds between two records, the second the last one if it is None."""
        until = self._recording.last_at if end is None else self._recording.record(end).at
        return max(0.0, until - self._recording.record(begin).at)


def _of_call(figures: CallFigures) -> Branch:
    branch = Branch(
        kind=figures.kind, name=figures.name, text=figures.label, status=figures.state, seconds=figures.seconds
    )
    branch.sums.add(figures)
    if figures.problem:
        branch.text = f"{figures.label}: {figures.problem}"
    return branch
