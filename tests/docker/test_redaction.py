"""Redaction in whole runs: what is kept out of every file that a run writes, and what nobody is kept from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rlm_kernel import REDACTED, RLM, Hooks, Settings
from rlm_kernel.errors import RecordingError
from rlm_kernel.events import CellOutput, CellStarted, RunFinished, RunStarted, SubcallRequested
from rlm_kernel.recording import EVENTS_FILE, Recording, fits
from tests.docker.test_rlm import cell, script, settings
from tests.support.replays import run_again, without_models
from tests.support.sinks import Events

__all__ = ["settings"]
SECRET = "hunter2"
KEY = "sk-proj-" + "a1B2" * 8


async def test_a_secret_is_in_no_file_but_the_context(settings: Settings, tmp_path: Path) -> None:
    """The cells, the models, the caller and `on_event` have it; recording, hooks and who follows the run do not."""
    hooked: list[str] = []
    events = Events()
    root = script(
        tmp_path,
        cell(f"print(context)\nprint({KEY!r})\nllm_query('tell ' + context)\n1/0"),
        cell(f"FINAL({{context: [context, {KEY!r}]}})"),
    )
    rlm = RLM(
        root,
        script(tmp_path, f"I tell {SECRET}"),
        settings=replace(settings, redact="keys"),
        on_event=events,
        hooks=Hooks(cell_done=lambda cell: hooked.append(repr(cell))),
        redact=lambda text: text.replace(SECRET, REDACTED),
    )
    async with rlm:
        run = rlm.start(f"Is it {SECRET}?", SECRET)
        followed = [event async for event in run]
        result = await run.result()
    assert SECRET in result.answer
    assert KEY in result.answer
    for file in (settings.state_dir / "runs").rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file
            assert KEY.encode() not in file.read_bytes(), file
    assert not [
        file for file in settings.state_dir.iterdir() if file.is_file() and SECRET.encode() in file.read_bytes()
    ]
    assert hooked
    assert SECRET not in repr(followed) + "".join(hooked)
    assert [len(events.of(kind)) for kind in (RunStarted, RunFinished)] == [1, 1]
    assert SECRET in (events.of(RunFinished)[0].answer or "")
    with Recording(result.recording / EVENTS_FILE) as recording:
        (call,) = recording.root.calls.values()
        record = recording.record(call.requested)
        assert isinstance(record.event, SubcallRequested)
        assert record.redacted == ["prompt"]
        assert fits(record.event.prompt, f"tell {SECRET}")
        struck = {type(record.event) for record in recording.records() if record.redacted}
    assert {RunStarted, CellStarted, CellOutput, RunFinished} <= struck


async def test_a_hook_that_fails_ends_the_run(settings: Settings, tmp_path: Path) -> None:
    """With an error that says so, and nothing of the text or of the sandbox is left."""

    def fail_on_secrets(text: str) -> str:
        if SECRET in text:
            raise ValueError(text)
        return text

    rlm = RLM(script(tmp_path, cell("print(context)")), settings=settings, redact=[fail_on_secrets])
    async with rlm:
        with pytest.raises(RecordingError, match="fail_on_secrets raised ValueError"):
            await rlm.acompletion("What is it?", SECRET)
    (events,) = (settings.state_dir / "runs").rglob(EVENTS_FILE)
    assert SECRET.encode() not in events.read_bytes()
    with Recording(events) as recording:
        assert recording.finished is None


def shout(text: str) -> str:
    """Say it louder."""
    return text.upper()


async def test_calls_are_found_again_by_what_is_left_of_them(settings: Settings, tmp_path: Path) -> None:
    """A replay makes them with the whole texts, as the context has them; it has the answers as they are recorded."""
    root = script(
        tmp_path,
        cell(f"one = llm_query('plain')\ntwo = llm_query('tell ' + context)\nthree = shout(context + ' {KEY}')"),
        cell("FINAL([one, two, three])"),
    )
    rlm = RLM(
        root,
        script(tmp_path, "first", f"second {SECRET}"),
        settings=replace(settings, redact="keys"),
        redact=lambda text: text.replace(SECRET, REDACTED).replace(SECRET.upper(), REDACTED),
        tools=[shout],
    )
    async with rlm:
        result = await rlm.acompletion("Which?", SECRET)
    assert SECRET.upper() in result.answer
    again = await run_again(without_models(settings), result.recording, SECRET)
    assert (again.error, again.missing, again.late) == (None, [], [])
    assert again.result is not None
    assert json.loads(again.result.answer) == ["first", f"second {REDACTED}", f"{REDACTED} {KEY.upper()}"]
