"""Runs as training data: what trainers that read chat JSONL are given."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from rlm_kernel import events as ev
from rlm_kernel.errors import ConfigError
from rlm_kernel.export.chat import Chosen, Level
from rlm_kernel.export.chat_file import export_chat
from rlm_kernel.recording import REDACTED, RecordingLog, Redaction
from rlm_kernel.types import Message, Origin, Tool, ToolCall, Usage
from tests.support.recorded import run_id, started, write_run

KEPT = Path(__file__).parents[2] / "recordings" / "v1"
TEXT = {"type": "string"}
CALL = {
    "type": "object",
    "required": ["id", "type", "function"],
    "additionalProperties": False,
    "properties": {
        "id": TEXT,
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "required": ["name", "arguments"],
            "additionalProperties": False,
            "properties": {"name": TEXT, "arguments": TEXT},
        },
    },
}
SAID = {"role": {"enum": ["system", "user"]}, "content": TEXT}
REPLIED = {
    "role": {"const": "assistant"},
    "content": TEXT,
    "tool_calls": {"type": "array", "minItems": 1, "items": CALL},
    "reasoning_content": TEXT,
}
DONE = {"role": {"const": "tool"}, "content": TEXT, "tool_call_id": TEXT}
SCHEMA = {
    "type": "object",
    "required": ["messages", "metadata"],
    "additionalProperties": False,
    "properties": {
        "messages": {
            "type": "array",
            "minItems": 2,
            "items": {
                "oneOf": [
                    {"type": "object", "properties": each, "required": must, "additionalProperties": False}
                    for each, must in (
                        (SAID, ["role", "content"]),
                        (REPLIED, ["role", "content"]),
                        (DONE, ["role", "content", "tool_call_id"]),
                    )
                ]
            },
        },
        "tools": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["type", "function"],
                "properties": {
                    "type": {"const": "function"},
                    "function": {"type": "object", "required": ["name", "description", "parameters"]},
                },
            },
        },
        # Columns of a table: one type each, whichever line it is.
        "metadata": {
            "type": "object",
            "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
            "required": ["level", "run", "node", "depth", "question", "status", "model", "cost_usd", "redacted"],
        },
    },
}


def lines(recordings: Iterable[Path] | Path, level: Level = "root", *outcomes: str) -> list[dict[str, Any]]:
    """Return what is written, each line checked against what the trainers' documentation asks for."""
    file = io.BytesIO()
    chosen = Chosen(level=level, outcomes=frozenset(outcomes or ["answered"]))
    exported = export_chat([recordings] if isinstance(recordings, Path) else recordings, file, chosen)
    assert exported.problems == []
    found = [json.loads(line) for line in file.getvalue().splitlines()]
    assert exported.lines == len(found)
    for line in found:
        jsonschema.validate(line, SCHEMA)
        assert line["messages"][-1]["role"] == "assistant"
        assert line["messages"][-1]["content"] or line["messages"][-1]["tool_calls"]
        if line["metadata"]["level"] == "root":
            _check_order(line["messages"])
    return found


def _check_order(messages: list[dict[str, Any]]) -> None:
    """Chat templates want each call of a tool answered before anything else is said."""
    open_calls: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            open_calls.remove(message["tool_call_id"])
        else:
            assert not open_calls
            open_calls = [call["id"] for call in message.get("tool_calls", [])]


def replied(call: str, text: str, **more: Any) -> ev.ModelReplied:
    usage = Usage(calls=1, input_tokens=10, output_tokens=5, cost_usd=0.25)
    return ev.ModelReplied(
        **{
            "call": call,
            "text": text,
            "finish_reason": "stop",
            "usage": usage,
            "seconds": 1.0,
            "attempts": 1,
            "served_by": "m",
            **more,
        }
    )


def asked(call: str, history: int, *messages: Message) -> ev.ModelRequested:
    return ev.ModelRequested(call=call, model="m", history=history, messages=list(messages))


def answered(ask: int = 1, answer: str = "42", reason: str | None = None) -> ev.AnswerGiven:
    return ev.AnswerGiven(answer=answer, source="FINAL", ask=ask, reason=reason)


USER = Message("user", "How many?")


def test_a_kept_recording_is_chat(tmp_path: Path) -> None:
    """Of a session of two questions each is a line: the second one's conversation has the first one's in it."""
    first, second = lines(KEPT / "session")
    assert first["metadata"]["question"] == 1
    assert [message["role"] for message in first["messages"][:2]] == ["system", "user"]
    assert second["messages"][: len(first["messages"])] == first["messages"]
    assert second["metadata"]["repeated_messages"] == len(first["messages"])
    assert first["metadata"]["calls"] == 4
    assert first["metadata"]["failed_cells"] == 1
    subs = lines(KEPT / "session", "sub")
    assert {"Rain.", "Sun.", "Wind."} <= {line["messages"][1]["content"] for line in subs}
    assert len(lines(KEPT / "session", "all")) == len(subs) + 2


def test_sessions_below_are_lines_of_their_own() -> None:
    """With their depth; the calls that they answered are none, as no model answered those by itself."""
    found = lines(KEPT / "children")
    assert [(line["metadata"]["node"], line["metadata"]["depth"]) for line in found] == [("", 0), ("s1", 1), ("s2", 1)]
    assert len({line["metadata"]["run"] for line in found}) == 1
    assert lines(KEPT / "children", "sub") == []


def test_a_reply_without_a_word_is_no_lesson(tmp_path: Path) -> None:
    """Trainers refuse an empty message: a conversation ends with the reply before it, and such a call is no line."""
    spent = replied("s1", "<think>Hmm", finish_reason="length")
    fields = ("call", "text", "finish_reason", "usage", "seconds", "attempts", "served_by")
    folder = write_run(
        tmp_path,
        run_id(1),
        [
            started(run_id(1)),
            ev.QuestionAsked(ask=1, question="How many?"),
            ev.TurnStarted(turn=1),
            asked("m1", 0, Message("system", "You"), USER),
            replied("m1", "```repl\nllm_query('?')\n```"),
            ev.CellStarted(cell=1, turn=1, code="llm_query('?')"),
            ev.SubcallRequested(call="s1", cell=1, model="m", prompt="?"),
            ev.SubcallReplied(**{name: getattr(spent, name) for name in fields}),
            ev.CellFinished(cell=1, status="ok", seconds=1.0),
            ev.TurnStarted(turn=2),
            asked("m2", 2, Message("assistant", "```repl\nllm_query('?')\n```"), Message("user", "Nothing.")),
            replied("m2", "<think>Hmm, hmm.</think> "),
            answered(reason="The turns are used up."),
        ],
    )
    (line,) = lines(folder, "all", "partial")
    assert line["messages"][-1]["content"] == "```repl\nllm_query('?')\n```"
    assert line["metadata"]["output_tokens"] == 10


def test_calls_of_tools_keep_their_form(tmp_path: Path) -> None:
    """With their arguments as the model wrote them, the tools that were offered, and what the model thought apart."""
    call = ToolCall("t1", "python", '{"code": "1"', {"signature": "x"})
    tool = Tool("python", "Runs code.", {"type": "object", "properties": {"code": {"type": "string"}}})
    request = asked("m1", 0, Message("system", "You"), USER)
    folder = write_run(
        tmp_path,
        run_id(1),
        [
            started(run_id(1)),
            ev.QuestionAsked(ask=1, question="How many?", schema={"type": "integer"}),
            ev.TurnStarted(turn=1),
            ev.ModelRequested(call="m1", model="m", history=0, messages=request.messages, tools=[tool]),
            replied("m1", "", tool_calls=[call], reasoning={"reasoning_content": "hm"}),
            ev.TurnStarted(turn=2),
            ev.ModelRequested(
                call="m2",
                model="m",
                history=2,
                messages=[
                    Message("assistant", "", (call,), reasoning={"reasoning_content": "hm"}),
                    Message("tool", "1", tool_call_id="t1"),
                ],
                tools=[tool],
            ),
            replied("m2", "<think>so</think>\nIt is 42.", cached=Origin(how="recorded", run="r", at="t")),
            answered(),
        ],
    )
    (line,) = lines(folder)
    assert line["messages"][2] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "python", "arguments": '{"code": "1"'}}],
        "reasoning_content": "hm",
    }
    assert line["messages"][4]["content"] == "It is 42."
    assert line["tools"][0]["function"]["name"] == "python"
    metadata = line["metadata"]
    assert (metadata["fits_schema"], metadata["cached_replies"], metadata["input_tokens"]) == (True, 1, 20)
    assert (metadata["cost_usd"], metadata["answer"]) == (0.5, "42")


def test_a_conversation_that_began_anew_is_two(tmp_path: Path) -> None:
    """Each as it was at its end, so that no line holds what the model did not see together."""
    summary = Message("user", "Earlier turns were taken out")
    folder = write_run(
        tmp_path,
        run_id(1),
        [
            started(run_id(1)),
            ev.QuestionAsked(ask=1, question="How many?"),
            ev.TurnStarted(turn=1),
            asked("m1", 0, USER),
            replied("m1", "one"),
            asked("m2", 1, Message("assistant", "one"), Message("user", "Sum it up")),
            replied("m2", "the sum"),
            asked("m3", 1, Message("assistant", "(removed)"), summary),
            replied("m3", "two"),
            asked("m4", 3, Message("assistant", "two"), Message("user", "Go on")),
            ev.ModelFailed(call="m4", error="ModelTimeout", message="late", seconds=1),
            answered(),
        ],
    )
    first, second = lines(folder)
    assert [message["content"] for message in first["messages"]] == ["How many?", "one", "Sum it up", "the sum"]
    assert [message["content"] for message in second["messages"]] == ["How many?", "(removed)", summary.content, "two"]
    assert [line["metadata"]["window"] for line in (first, second)] == [1, 2]
    assert second["metadata"]["repeated_messages"] == 1


def test_outcomes_are_chosen(tmp_path: Path) -> None:
    """Without a word on it only what was answered is written; a run without an end is told from one that failed."""

    def run(number: int, *end: ev.AnyEvent) -> Path:
        question = ev.QuestionAsked(ask=1, question="?")
        request, turn = asked("m1", 0, USER), ev.TurnStarted(turn=1)
        events = [started(run_id(number)), question, turn, request, replied("m1", "one"), *end]
        return write_run(tmp_path, run_id(number), events)

    failed = ev.QuestionFailed(ask=1, error="NoAnswer", message="none")
    cancelled = ev.QuestionFailed(ask=1, error="CancelledError", message="")
    folders = [run(1, answered()), run(2, answered(reason="--max-turns")), run(3, failed), run(4, cancelled), run(5)]
    assert [line["metadata"]["run"] for line in lines(folders)] == [run_id(1)]
    every = lines(folders, "root", "answered", "partial", "failed", "cancelled", "broken-off")
    statuses = [line["metadata"]["status"] for line in every]
    assert statuses == ["answered", "partial", "failed", "cancelled", "broken-off"]
    assert every[2]["metadata"]["reason"] == "NoAnswer: none"


def test_what_was_redacted_is_marked(tmp_path: Path) -> None:
    """In the conversation's and in the single call's own line."""
    call = ev.SubcallRequested(call="s1", cell=1, model="m", prompt="the secret")
    reply = replied("m1", "one")
    with RecordingLog(tmp_path, run_id(1), redaction=Redaction([lambda text: text.replace("secret", REDACTED)])) as log:
        for event in (
            started(run_id(1)),
            ev.QuestionAsked(ask=1, question="?"),
            ev.TurnStarted(turn=1),
            asked("m1", 0, Message("user", "a secret")),
            reply,
            ev.CellStarted(cell=1, turn=1, code=""),
            call,
            ev.SubcallReplied(
                call="s1", text="ok", finish_reason="stop", usage=Usage(), seconds=0, attempts=1, served_by="m"
            ),
            ev.CellFinished(cell=1, status="ok", seconds=0),
            answered(),
        ):
            log.emit(event)
    found = lines(log.path, "all")
    assert [line["metadata"]["redacted"] for line in found] == [True, True]
    assert "secret" not in json.dumps(found)


def test_a_file_is_not_overwritten(tmp_path: Path) -> None:
    """But with `force`; a folder gets a file of a name that does not depend on the runs."""
    exported = export_chat([KEPT / "session"], tmp_path)
    assert exported.path == tmp_path / "chat.jsonl"
    with pytest.raises(ConfigError, match="--force"):
        export_chat([KEPT / "session"], tmp_path)
    assert export_chat([KEPT / "session"], tmp_path, force=True).lines == 2


@pytest.mark.parametrize("history", [5, 2**40])
def test_what_can_not_be_put_together_is_told(tmp_path: Path, history: int) -> None:
    """A recording that was made to mislead, or damaged, is no reason to lose the others."""
    bad = write_run(
        tmp_path,
        run_id(1),
        [started(run_id(1)), ev.QuestionAsked(ask=1, question="?"), ev.TurnStarted(turn=1), asked("m1", history, USER)],
    )
    torn = tmp_path / "torn.jsonl"
    torn.write_bytes((KEPT / "session" / "events.jsonl").read_bytes() + b"{}\n")
    exported = export_chat([bad, tmp_path / "missing", torn, KEPT / "children"], io.BytesIO())
    assert exported.lines == 2 + 3
    assert [len(exported.problems), exported.runs] == [3, 2]
    assert "line 4" in exported.problems[0]
