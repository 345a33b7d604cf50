"""What is kept out of recordings, and what may have stood there."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rlm_kernel import RLM, Settings
from rlm_kernel.errors import ConfigError, RecordingError
from rlm_kernel.events import (
    AnyEvent,
    CellFinished,
    CellOutput,
    CellStarted,
    ContextStored,
    ModelReplied,
    ModelRequested,
    Notice,
    QuestionAsked,
    RunFinished,
    RunStarted,
    SubcallRequested,
    TurnStarted,
)
from rlm_kernel.recording import REDACTED, Recording, RecordingLog, Redaction, fits, hooks_of, read_events
from rlm_kernel.recording.tape import Tape
from rlm_kernel.session import CallKey, digest
from rlm_kernel.types import JSON, Message, ToolCall, Usage

RUN = "20261121T073000Z-1f0c9a3e"
SECRET = "hunter2"
KEY = "sk-proj-" + "a1B2" * 8


def hide(text: str) -> str:
    return text.replace(SECRET, REDACTED)


def everywhere() -> list[AnyEvent]:
    """Return events that hold the secret in every kind of place."""
    final: JSON = {SECRET: [1, {"deep": [f"a {SECRET} b"]}], "[redacted]": None}
    call = ToolCall("t1", "run_python", f'{{"code": "x = {SECRET!r}"}}', {"signature": SECRET})
    return [
        RunStarted(
            run=RUN,
            question=SECRET,
            model="m",
            sub_model="m",
            package_version="1",
            python_version="3",
            settings={"redact": f"/{SECRET}/"},
        ),
        ModelRequested(
            call="m1",
            model="m",
            history=0,
            messages=[
                Message("system", "none here"),
                Message("assistant", f"{SECRET}!", (call,), reasoning={"thought": SECRET}),
            ],
        ),
        ModelReplied(
            call="m1",
            text=SECRET,
            finish_reason="stop",
            usage=Usage(),
            seconds=0,
            attempts=1,
            served_by="m",
            tool_calls=[call],
        ),
        CellStarted(cell=1, turn=1, code=f"print('{SECRET}')"),
        CellOutput(cell=1, output={"output_type": "stream", "name": "stdout", "text": f"{SECRET}\n"}),
        CellFinished(cell=1, status="error", seconds=0, evalue=SECRET, final=final),
        RunFinished(status="answered", answer=SECRET, seconds=0, turns=1, usage={"m": Usage()}, message=SECRET),
    ]


def test_no_byte_of_a_secret_reaches_the_disk(tmp_path: Path) -> None:
    """Neither in texts, in values of any depth, in keys nor in the names of places; the chain is of what is written."""
    with RecordingLog(tmp_path, RUN, redaction=Redaction([hide])) as log:
        for event in everywhere():
            log.emit(event)
    assert SECRET.encode() not in log.path.read_bytes()
    with Recording(log.path) as recording:
        records = list(recording.records())
    assert [type(record.event) for record in records] == [type(event) for event in everywhere()]
    assert [record.redacted for record in records] == [
        ["question", "settings.redact"],
        [
            "messages.1.content",
            "messages.1.tool_calls.0.arguments",
            "messages.1.tool_calls.0.extra.signature",
            "messages.1.reasoning.thought",
        ],
        ["text", "tool_calls.0.arguments", "tool_calls.0.extra.signature"],
        ["code"],
        ["output.text"],
        ["evalue", "final.*", "final.[redacted] 2.1.deep.0"],
        ["answer", "message"],
    ]
    finished = records[5].event
    assert isinstance(finished, CellFinished)
    assert finished.final == {"[redacted] 2": [1, {"deep": ["a [redacted] b"]}], "[redacted]": None}


def test_what_a_hook_leaves_is_written_as_it_was(tmp_path: Path) -> None:
    """A record without a place of its own says nothing of redaction, and is the same line but for its time."""
    event = SubcallRequested(call="s1", cell=1, model="m", prompt="a prompt", context_digest="d")
    with RecordingLog(tmp_path, RUN, redaction=Redaction([hide])) as log:
        log.emit(event)
    assert b"redacted" not in log.path.read_bytes()
    assert [record.event for record in read_events(log.path)] == [event]


def test_hooks_follow_one_another_and_see_no_names_of_ours() -> None:
    """Each is given what the one before it returned; digests, calls' names and words of a choice stay as they are."""
    event = SubcallRequested(call="s1", cell=1, model="m", prompt="one", kind="rlm", context_digest="d1")
    seen: list[str] = []

    def first(text: str) -> str:
        seen.append(text)
        return "two"

    marked, places = Redaction([first, lambda text: f"{text}, three"]).applied(event)
    assert (marked.prompt, marked.call, marked.kind, marked.context_digest) == ("two, three", "s1", "rlm", "d1")
    assert seen == ["m", "one"]
    assert places == ["model", "prompt"]


def boom(text: str) -> str:
    raise ValueError(text)


@pytest.mark.parametrize("hook", [boom, lambda text: None, lambda text: text.encode()])
def test_a_hook_that_fails_ends_the_recording(tmp_path: Path, hook: Callable[[str], str]) -> None:
    """Nothing of the text is written or told, and as the event is missing, none follows it."""
    with RecordingLog(tmp_path, RUN, redaction=Redaction([hook])) as log:
        log.emit(TurnStarted(turn=1))
        with pytest.raises(RecordingError, match="redaction hook") as raised:
            log.emit(Notice(message=SECRET))
        assert SECRET not in str(raised.value)
        with pytest.raises(RecordingError, match="redaction hook"):
            log.emit(TurnStarted(turn=2))
        assert [record.event for record in read_events(log.path)] == [TurnStarted(turn=1)]


def test_places_are_bounded() -> None:
    """A guest's value of any size or depth makes neither a long list of places nor an error."""
    deep: JSON = SECRET
    for _ in range(5_000):
        deep = [deep]
    wide: JSON = {f"{SECRET}{number}" * 100: SECRET for number in range(1_000)}
    for value in (deep, wide):
        event, places = Redaction([hide]).applied(CellFinished(cell=1, status="ok", seconds=0, final=value))
        assert 1 <= len(places) <= 100
        assert max(map(len, places)) <= 450
        assert SECRET not in repr(event)
    assert isinstance(event.final, dict)
    assert len(event.final) == 1_000


@pytest.mark.parametrize(
    "key",
    [
        KEY,
        "sk-ant-api03-" + "aB3_" * 10,
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_" + "a1" * 18,
        "github_pat_" + "a1_" * 20,
        "hf_" + "aB1" * 11,
        "AIza" + "a-1_5" * 7,
        "xoxb-123456789012-abcdefABCDEF",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nMIIE+/=\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_keys_are_known_by_their_shape(key: str) -> None:
    """Alone, in a line, in quotes, and in JSON text after an escaped newline."""
    (keys,) = hooks_of("keys")
    for text in ("{}", "key={} ", "'{}'", '{{"code": "a\\n{}"}}'):
        assert keys(text.format(key)) == text.format(REDACTED)


@pytest.mark.parametrize(
    "text",
    [
        "a task-management-system-2-overview",
        "sk-learn-based-pipelines-are-many",
        "hf_transformers",
        "eyJ",
        "AKIA",
        "SG.",
    ],
)
def test_words_are_no_keys(text: str) -> None:
    """What only begins like one stays."""
    (keys,) = hooks_of("keys")
    assert keys(text) == text


@pytest.mark.parametrize(
    "piece",
    [
        "sk-", "sk-a", "\\nsk-", "eyJ", "eyJaaaaaaaaaa.", "eyJaaaaaaaaaaa.eyJ", "SG.", "SG.aaaaaaaaaaaaaaaa", "AKIA",
        "-----BEGIN ", "-----BEGIN PRIVATE KEY-----", "-----BEGIN A B C ", "-", "a-", "hf_a", "xoxb-", "ghp_",
    ],
)  # fmt: skip
def test_keys_are_looked_for_in_linear_time(piece: str) -> None:
    """A guest's text of beginnings that lead nowhere takes twice as long when it is twice as long, not four times."""
    (keys,) = hooks_of("keys")

    def seconds(size: int) -> float:
        text = piece * (size // len(piece)) + "!"
        started = time.process_time()
        keys(text)
        return time.process_time() - started

    assert min(seconds(400_000) for _ in range(3)) < 0.05 + 40 * min(seconds(40_000) for _ in range(3))


def test_what_is_named_is_what_is_kept_out() -> None:
    """Names, an expression, or both."""
    both = hooks_of(r"keys,/ACME-\d+|b{2,}/")
    text = f"ACME-12 {KEY} abba"
    for hook in both:
        text = hook(text)
    assert text == "[redacted] [redacted] a[redacted]a"
    assert len(hooks_of("/a,b/")) == 1


def test_what_is_no_function_is_refused(tmp_path: Path) -> None:
    """A name in place of a function has a place of its own, which the error tells."""
    with pytest.raises(ConfigError, match=r"Settings\(redact=\.\.\.\)"):
        RLM("scripted:a", settings=Settings(state_dir=tmp_path), redact="keys")  # type: ignore[arg-type]


@pytest.mark.parametrize("named", ["key", "keys/x/", "/x", "/x*/", "/(/", ",", "keys,/", "x,/y/", "//"])
def test_what_names_nothing_is_refused(named: str) -> None:
    """A misspelt name, half an expression, and one that matches the empty text."""
    with pytest.raises(ValueError, match=r"neither|no list|no regular|matches nothing at all|names nothing"):
        hooks_of(named)


@pytest.mark.parametrize(
    ("recorded", "text", "may"),
    [
        ("same", "same", True),
        ("a [redacted] b", "a secret b", True),
        ("a [redacted] b", "a  b", False),
        ("a [redacted] b", "a secret", False),
        ("[redacted] b [redacted]", "1 b 2", True),
        ("[redacted] b [redacted]", " b 2", False),
        ("x[redacted][redacted]y", "x12y", True),
        ("x[redacted][redacted]y", "x1y", False),
        ("a[redacted]ab", "ab", False),
        ("[redacted]", "anything", False),
        (" [redacted]\n[redacted] ", " anything\nelse ", False),
        ("none", "other", False),
        ("1[redacted]2[redacted]3", "1_3_2_3", True),
        ("1[redacted]2[redacted]3", "1_3_3", False),
    ],
)
def test_a_text_fits_what_is_left_of_it(recorded: str, text: str, *, may: bool) -> None:
    """What stands between the marks is there in order, and each mark stands for something; marks alone say nothing."""
    assert fits(recorded, text) is may


def test_crafted_marks_neither_match_nor_take_long() -> None:
    """Many marks are one text like any other, and pieces that nearly match are looked for once."""
    assert not fits("a" + REDACTED * 2_000, "a" * 5_000)
    started = time.process_time()
    for piece in ("a" * 500 + "b", "a", "ab" * 200):
        fits("a" + REDACTED.join([piece] * 900) + "c", "a" * 2_000_000 + "d")
        fits("a" + REDACTED.join([piece] * 900) + "c", "a" * 2_000_000 + "c")
    assert time.process_time() - started < 5


@pytest.mark.parametrize("struck", [True, False])
def test_only_what_was_redacted_is_matched_by_what_is_left(tmp_path: Path, *, struck: bool) -> None:
    """A mark that a program wrote is text like any other; model, kind and context of a call have to be the same."""
    with RecordingLog(tmp_path, RUN, redaction=Redaction([hide]) if struck else None) as log:
        for event in (
            everywhere()[0],
            ContextStored(digest="d", kind="str", size=1, source="x"),
            QuestionAsked(ask=1, question="?"),
            TurnStarted(turn=1),
            CellStarted(cell=1, turn=1, code=""),
            SubcallRequested(
                call="s1", cell=1, model="m", prompt=f"tell {SECRET}" if struck else f"tell {REDACTED}", asked="m"
            ),
        ):
            log.emit(event)
    with Recording(log.path) as recording:
        tape = Tape(recording).node("")
        assert tape is not None
        (call,) = tape.cell(1).calls
        text = "tell anybody"
        key = CallKey("llm", "m", digest(text))
        assert tape.may_be(call, key, text) is struck
        assert not tape.may_be(call, key, "anybody")
        assert not tape.may_be(call, key._replace(asked="other"), text)
        assert not tape.may_be(call, key._replace(kind="rlm"), text)
