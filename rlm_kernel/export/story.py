"""A run as a stream of a document's parts, read from its recording record by record; no more than a cell is held."""

from __future__ import annotations

from collections.abc import Iterator

from rlm_kernel import events as ev
from rlm_kernel.controller.fences import find_fences
from rlm_kernel.controller.reply import without_thinking
from rlm_kernel.errors import RecordingDamaged
from rlm_kernel.export.about import About, usage_table
from rlm_kernel.export.asides import Asides
from rlm_kernel.export.calls import call_parts
from rlm_kernel.export.outputs import Outputs
from rlm_kernel.export.parts import Block, Close, CodeCell, Heading, Open, Part, Prose, Table, Words
from rlm_kernel.export.shown import shorter
from rlm_kernel.export.sums import Sums
from rlm_kernel.export.text import one_line, shortened
from rlm_kernel.export.told import reply_facts, thinking, told
from rlm_kernel.recording import Recording
from rlm_kernel.recording.index import Cell, Question, RootCall, Turn

MAX_NESTED = 6
"""Sessions within sessions that one document shows."""
_ROWS = 200
"""Of a table that may be long, as many rows are one part."""


class Story:
    """What a session of a run did: its questions, turns, cells and calls, and the sessions below it within them."""

    def __init__(self, recording: Recording, path: str = "", shorten: int | None = None, nested: int = 0) -> None:
        """`shorten` is how many characters each prompt, answer, code and printed text has at most.

        Raise `ConfigError` if the run has no session at `path`.
        """
        self.about = About(recording, path)
        self.recording, self._node, self._shorten, self._nested = recording, self.about.node, shorten, nested
        self._outputs = Outputs(recording, self._node)
        self._asides = Asides(recording, self._node)
        self._sums = Sums()
        self.damage = recording.damage

    def parts(self) -> Iterator[Part]:
        """Yield the parts, from the title to the table of what it took, or to a record that is none: see `damage`."""
        depth = 0
        try:
            for part in self._parts():
                yield part
                depth += isinstance(part, Open) - isinstance(part, Close)
        except RecordingDamaged as error:
            self.damage = str(error)
            for _ in range(depth):
                yield Close()
            yield Words(f"This recording is damaged. What stands before the damage is here. {error}", alarm=True)

    def _parts(self) -> Iterator[Part]:
        if not self._nested:
            yield self._heading(1, f"Run {self.about.started.run}")
            for warning in self.about.warnings():
                yield Words(warning, alarm=True)
        yield self.about.table()
        for question in self._node.questions:
            yield from self._asides.before(question.asked)
            yield from self._question(question)
        yield from self._asides.before(len(self.recording))
        yield from self._end()

    def _question(self, question: Question) -> Iterator[Part]:
        asked = self.recording.expect(question.asked, ev.QuestionAsked)
        yield self._heading(2, f"Question {question.number}")
        yield from self._text("", asked.question)
        if asked.schema is not None:
            yield Words("The answer has to fit a JSON schema.")
        for turn in question.turns:
            yield from self._asides.before(turn.started)
            yield from self._turn(question, turn)
        if question.ended is None:
            return
        yield from self._asides.before(question.ended)
        ended = self.recording.event(question.ended)
        if isinstance(ended, ev.AnswerGiven):
            yield self._heading(2, "Answer" if not ended.reason else "Answer, the best one so far")
            if ended.reason:
                yield Words(ended.reason, alarm=True)
            yield from self._text("", ended.answer)
        elif isinstance(ended, ev.QuestionFailed):
            yield Words(f"The question has no answer: {ended.error}: {ended.message}", alarm=True)

    def _turn(self, question: Question, turn: Turn) -> Iterator[Part]:
        yield self._heading(3, f"Turn {turn.number}")
        self._sums.begin(question.number, turn.number)
        codes = {self._code(cell).code.strip() for cell in turn.cells}
        for asked in turn.asked:
            yield from self._reply(asked, codes, has_cells=bool(turn.cells))
        for cell in turn.cells:
            yield from self._asides.before(cell.started)
            yield from self._cell(cell)

    def _reply(self, asked: RootCall, codes: set[str], *, has_cells: bool) -> Iterator[Part]:
        if asked.ended is None:
            yield Words(f"The request {asked.name} to the model has no end here.", alarm=True)
            return
        yield from self._asides.before(asked.ended)
        reply = self.recording.event(asked.ended)
        if isinstance(reply, ev.ModelFailed):
            yield Words(f"The request {asked.name} failed: {reply.error}: {reply.message}", alarm=True)
            self._sums.root(reply.usage, reply.seconds)
        elif isinstance(reply, ev.ModelReplied):
            text = reply.text.replace("\r\n", "\n")
            said = without_thinking(text)
            thought = "\n\n".join(filter(None, [thinking(reply.reasoning), text[: len(text) - len(said)].strip()]))
            if thought:
                yield Open("Thinking")
                yield Block("", shortened(thought, self._shorten))
                yield Close()
            if prose := _without_cells(said, codes).strip():
                yield Prose(shortened(prose, self._shorten))
            for call in reply.tool_calls if not has_cells else []:
                yield Block(f"A call of {call.name}, which ran no cell", shortened(call.arguments, self._shorten))
            yield Words(" · ".join([asked.name, one_line(reply.served_by), *reply_facts(reply)]))
            self._sums.root(reply.usage, reply.seconds)

    def _cell(self, cell: Cell) -> Iterator[Part]:
        started = self._code(cell)
        finished = None if cell.finished is None else self.recording.expect(cell.finished, ev.CellFinished)
        yield CodeCell(
            number=cell.number,
            turn=cell.turn,
            record=cell.started,
            code=started.code,
            started=self.recording.record(cell.started).at,
            finished=None if cell.finished is None else self.recording.record(cell.finished).at,
            seconds=finished.seconds if finished else None,
            status=finished.status if finished else None,
            execution_count=finished.execution_count if finished else None,
            outputs=[shorter(output, self._shorten) for output in self._outputs.of(cell)],
        )
        if finished is None:
            yield Words(f"Cell {cell.number} has no end here.", alarm=True)
        elif sentence := told(finished):
            yield Words(sentence, alarm=True)
        for seq in cell.others:
            if sentence := told(self.recording.event(seq)):
                yield Words(shortened(sentence, self._shorten))
        yield from self._asides.before(cell.finished or self._calls_end(cell))
        self._sums.cell(finished.seconds if finished else 0.0)
        if cell.calls:
            first, last = cell.calls[0].name, cell.calls[-1].name
            many = f"{len(cell.calls):,} calls of cell {cell.number}, {first} to {last}"
            yield Open(many if len(cell.calls) > 1 else f"1 call of cell {cell.number}, {first}")
            for call in cell.calls:
                retried = self._asides.retries.pop(call.name, 0)
                yield from call_parts(self.recording, call, self._sums, retried, self._shorten, self._session)
            yield Close()

    def _calls_end(self, cell: Cell) -> int:
        return max((call.ended or call.requested for call in cell.calls), default=cell.started)

    def _session(self, name: str) -> Iterator[Part]:
        """Yield what the session that answered the sub-call `name` did, or where to look for it."""
        path = f"{self._node.path}/{name}" if self._node.path else name
        below = self.recording.nodes.get(path)
        if below is None or below.started is None:
            return
        yield Words(f"A session answered it; --node {path} exports that one alone.")
        if self._nested < MAX_NESTED:
            yield Open(f"Session {path}")
            yield from Story(self.recording, path, self._shorten, self._nested + 1)._parts()
            yield Close()

    def _end(self) -> Iterator[Part]:
        if self.about.finished and self.about.finished.error:
            yield Words(f"It failed: {self.about.finished.error}: {self.about.finished.message}", alarm=True)
        yield self._heading(2, "Time, tokens and cost")
        rows = self._sums.rows
        for first in range(0, len(rows), _ROWS):
            yield Table(Sums.HEADER, rows[first : first + _ROWS])
        if usage := self.about.usage:
            yield usage_table(usage)

    def _heading(self, level: int, text: str) -> Heading:
        return Heading(min(6, level + 3 * bool(self._nested)), text)

    def _text(self, title: str, text: str) -> Iterator[Part]:
        yield Block(title, shortened(text, self._shorten))

    def _code(self, cell: Cell) -> ev.CellStarted:
        return self.recording.expect(cell.started, ev.CellStarted)


def _without_cells(text: str, codes: set[str]) -> str:
    """Return a reply without the fences whose code became cells."""
    lines = text.split("\n")
    for fence in reversed(find_fences(text)):
        if fence.is_python and fence.code.strip() in codes:
            del lines[fence.first : fence.end]
    return "\n".join(lines)
