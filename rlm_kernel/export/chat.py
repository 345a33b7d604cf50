"""Runs as training data: conversations in the chat format that trainers read, a JSON object a line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from rlm_kernel import events as ev
from rlm_kernel.controller.reply import without_thinking
from rlm_kernel.errors import RecordingDamaged
from rlm_kernel.export.told import thinking
from rlm_kernel.recording import Recording, is_written
from rlm_kernel.recording.index import Call, Node, Question
from rlm_kernel.types import Message, Tool, ToolCall, Usage

Level = Literal["root", "sub", "all"]
Outcome = Literal["answered", "partial", "failed", "cancelled", "running", "broken-off"]
Line = dict[str, Any]
_WITHOUT_ANSWER: dict[str, Outcome] = {
    "CancelledError": "cancelled",
    "KeyboardInterrupt": "cancelled",
    "RecordingEnded": "broken-off",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which conversations are written: of sessions ("root"), of single calls of a model ("sub") or both; and the
    outcomes of the questions that they belong to."""

    level: Level = "root"
    outcomes: frozenset[str] = frozenset(["answered"])


def chat_lines(recording: Recording, chosen: Chosen) -> Iterator[Line]:
    """Yield the conversations of a run and of the sessions below it, each session's questions in order.

    No more than one conversation is held at a time. Raise `RecordingDamaged` for one that can't be put together.
    """
    for node in recording.nodes.values():
        if node.started is not None:
            yield from _Session(recording, node).lines(chosen)


class _Session:
    """One session of a run, as conversations."""

    def __init__(self, recording: Recording, node: Node) -> None:
        assert node.started is not None
        self._recording, self._node = recording, node
        self._started = recording.expect(node.started, ev.RunStarted)
        self._held: list[Message] = []
        self._said = 0
        """How many messages of the conversation an earlier line of this session holds."""

    def lines(self, chosen: Chosen) -> Iterator[Line]:
        for question in self._node.questions:
            outcome = self._outcome(question)
            wanted = outcome["status"] in chosen.outcomes
            if chosen.level != "sub":
                more = self._work(question) if wanted else {}
                for number, window in enumerate(self._windows(question), 1):
                    if wanted:
                        yield self._line(window, {**outcome, **more, "window": number})
            if chosen.level != "root" and wanted:
                for turn in question.turns:
                    for cell in turn.cells:
                        for call in cell.calls:
                            yield from self._call(call, outcome)

    def _windows(self, question: Question) -> Iterator[_Window]:
        """Yield each conversation that the question's turns had, as it was at its end.

        It begins anew where it was compacted, or the model was asked in another way.
        """
        window = _Window()
        for asked in (asked for turn in question.turns for asked in turn.asked):
            record = self._recording.record(asked.requested)
            request = record.event
            if not isinstance(request, ev.ModelRequested) or request.history > len(self._held):
                raise RecordingDamaged(
                    f"{self._recording.path}, line {asked.requested + 1}: no request that follows on the one before it"
                )
            if request.history < len(self._held):
                if window.reply is not None:
                    yield window
                window, self._said = _Window(), min(self._said, request.history)
            del self._held[request.history :]
            self._held += request.messages
            window.is_redacted |= bool(record.redacted)
            if asked.ended is not None:
                window.take(request, self._recording.record(asked.ended), len(self._held))
        if window.reply is not None:
            yield window

    def _line(self, window: _Window, outcome: Line) -> Line:
        held = self._held[: window.length]
        repeated, self._said = min(self._said, window.length), window.length + 1
        metadata = outcome | {
            "level": "root",
            "model": window.model,
            "sub_model": self._started.sub_model,
            "repeated_messages": repeated,
            "images": sum(len(message.images) for message in held),
            "cached_replies": window.cached,
            "redacted": window.is_redacted,
            **_used(window.usage, ""),
        }
        assert window.reply is not None
        line: Line = {"messages": [*map(_message, held), _reply(window.reply)]}
        if window.tools:
            line["tools"] = [_tool(tool) for tool in window.tools]
        return line | {"metadata": metadata}

    def _call(self, call: Call, outcome: Line) -> Iterator[Line]:
        """Yield a call that a model answered by itself; what a session answered is that session's."""
        if call.kind == "tool" or call.ended is None:
            return
        asked, ended = self._recording.record(call.requested), self._recording.record(call.ended)
        if not isinstance(asked.event, ev.SubcallRequested) or not isinstance(ended.event, ev.SubcallReplied):
            return
        if call.kind == "rlm" and (self._below(call) or asked.event.context_digest):
            return
        reply = ended.event
        said = without_thinking(reply.text)
        if not said.strip():
            return
        yield {
            "messages": [
                {"role": "user", "content": asked.event.prompt},
                {"role": "assistant", "content": said.strip()} | _thought(reply.text[: len(reply.text) - len(said)]),
            ],
            "metadata": outcome
            | {
                "level": "sub",
                "call": call.name,
                "cell": call.cell,
                "model": asked.event.model,
                "served_by": reply.served_by,
                "finish_reason": reply.finish_reason,
                "seconds": reply.seconds,
                "images": len(asked.event.images),
                "cached": reply.cached.how if reply.cached else None,
                "redacted": bool(asked.redacted or ended.redacted),
                **_used(reply.usage, ""),
            },
        }

    def _below(self, call: Call) -> bool:
        path = f"{self._node.path}/{call.name}" if self._node.path else call.name
        return path in self._recording.nodes

    def _outcome(self, question: Question) -> Line:
        """Return what a question came to, and whose it was."""
        started = self._started
        ended = None if question.ended is None else self._recording.event(question.ended)
        reason = None
        match ended:
            case ev.AnswerGiven():
                status, reason = ("partial" if ended.reason else "answered"), ended.reason
            case ev.QuestionFailed():
                status, reason = _WITHOUT_ANSWER.get(ended.error, "failed"), f"{ended.error}: {ended.message}"
            case _:
                status = "running" if is_written(self._recording.path) else "broken-off"
        return {
            "run": started.run.partition("/")[0],
            "node": self._node.path,
            "depth": started.depth,
            "question": question.number,
            "status": status,
            "reason": reason,
            "origin": started.origin.how if started.origin else None,
        }

    def _work(self, question: Question) -> Line:
        """Return a question's answer, and what it took apart from the root model's own calls."""
        asked = self._recording.expect(question.asked, ev.QuestionAsked)
        ended = None if question.ended is None else self._recording.event(question.ended)
        answer = ended.answer if isinstance(ended, ev.AnswerGiven) else None
        done = {"cells": 0, "failed_cells": 0, "calls": 0, "failed_calls": 0}
        usage = Usage()
        for cell in (cell for turn in question.turns for cell in turn.cells):
            finished = None if cell.finished is None else self._recording.expect(cell.finished, ev.CellFinished)
            done["cells"] += 1
            done["failed_cells"] += finished is not None and finished.status != "ok"
            for call in cell.calls:
                end = None if call.ended is None else self._recording.event(call.ended)
                done["calls"] += 1
                done["failed_calls"] += isinstance(end, ev.SubcallFailed | ev.ToolFailed)
                if isinstance(end, ev.SubcallReplied | ev.SubcallFailed) and end.usage is not None:
                    usage += end.usage
        return {
            "answer": answer,
            "fits_schema": None if asked.schema is None else answer is not None,
            "turns": len(question.turns),
            **done,
            **_used(usage, "sub_"),
        }


@dataclass(slots=True)
class _Window:
    """A conversation up to its last reply, which follows on its first `length` messages."""

    length: int = 0
    model: str = ""
    tools: list[Tool] = field(default_factory=list)
    reply: ev.ModelReplied | None = None
    usage: Usage = field(default_factory=Usage)
    cached: int = 0
    is_redacted: bool = False

    def take(self, request: ev.ModelRequested, ended: ev.Record, length: int) -> None:
        """Take what ended a request."""
        reply = ended.event
        if isinstance(reply, ev.ModelFailed):
            self.usage += reply.usage or Usage()
        elif isinstance(reply, ev.ModelReplied):
            self.usage += reply.usage
            if not (without_thinking(reply.text).strip() or reply.tool_calls):
                return  # it taught nothing, and trainers refuse it
            self.length, self.model, self.tools, self.reply = length, request.model, request.tools, reply
            self.cached += reply.cached is not None
            self.is_redacted |= bool(ended.redacted)


def _message(message: Message) -> Line:
    line: Line = {"role": message.role, "content": message.content}
    if message.tool_calls:
        line["tool_calls"] = [*map(_tool_call, message.tool_calls)]
    if message.tool_call_id is not None:
        line["tool_call_id"] = message.tool_call_id
    return line | _thought(thinking(message.reasoning))


def _reply(reply: ev.ModelReplied) -> Line:
    """Return the last reply as the conversation would go on with it, its thinking apart."""
    said = without_thinking(reply.text)
    line: Line = {"role": "assistant", "content": said.strip()}
    if reply.tool_calls:
        line["tool_calls"] = [*map(_tool_call, reply.tool_calls)]
    return line | _thought(thinking(reply.reasoning) or reply.text[: len(reply.text) - len(said)])


def _thought(text: str) -> Line:
    return {"reasoning_content": text.strip()} if text.strip() else {}


def _tool_call(call: ToolCall) -> Line:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _tool(tool: Tool) -> Line:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def _used(usage: Usage, prefix: str) -> Line:
    return {
        f"{prefix}input_tokens": usage.input_tokens,
        f"{prefix}output_tokens": usage.output_tokens,
        f"{prefix}cost_usd": usage.cost_usd,
    }
