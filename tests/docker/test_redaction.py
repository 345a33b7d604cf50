"""Redaction in whole runs: what is kept out of every file that a run writes, and what nobody is kept from."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rlm_kernel import REDACTED, RLM, Hooks, Settings
from rlm_kernel.assembly.sweeping import sweep
from rlm_kernel.errors import RecordingError
from rlm_kernel.events import (
    CellOutput,
    CellStarted,
    RunFinished,
    RunStarted,
    SubcallReplied,
    SubcallRequested,
    ToolReplied,
    ToolRequested,
)
from rlm_kernel.recording import EVENTS_FILE, Recording, fits
from tests.docker.test_rlm import cell, script, settings
from tests.support.provider_server import ProviderServer, Reply
from tests.support.replays import run_again, without_models
from tests.support.sinks import Events

__all__ = ["settings"]
SECRET = "hunter2"
KEY = "sk-proj-" + "a1B2" * 8


def shout(text: str) -> str:
    """Say it louder."""
    return text.upper()


def holding(state: Path) -> list[Path]:
    """Return what in a state folder has a secret in it, or in its name; the content store aside."""
    found = [path for path in state.rglob("*") if path.relative_to(state).parts[0] != "contexts"]
    texts = {path: path.read_bytes() if path.is_file() else b"" for path in found}
    return [path for path in found for word in (SECRET, KEY) if word.encode() in texts[path] + bytes(path)]


def without_secret(text: str) -> str:
    """Take the secret out, however it is written."""
    return text.replace(SECRET, REDACTED).replace(SECRET.upper(), REDACTED)


async def test_a_secret_is_in_no_file_but_the_context(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cells, the models, tools, the caller and `on_event` have it; recording, stored answers, hooks and who follows
    the run do not, whether it is in prompts, code, outputs, arguments, sessions below, errors or answers.
    """
    hooked: list[str] = []
    events = Events()
    root = script(
        tmp_path,
        cell(f"print(context)\nprint({KEY!r})\nllm_query('tell ' + context)\nshout(context)\n1/0"),
        cell("below = rlm_query('Is it ' + context + '?', context=[context])\nraise KeyError(context)"),
        cell("print(context)\nFINAL(llm_query(str(context)))"),
        cell(f"FINAL({{context: [context, below, {KEY!r}]}})"),
    )
    rlm = RLM(
        root,
        "vllm:m",
        settings=replace(settings, redact="keys", cache="write", max_depth=2),
        tools=[shout],
        on_event=events,
        hooks=Hooks(cell_done=lambda cell: hooked.append(repr(cell))),
        redact=without_secret,
    )
    replies = iter([Reply(text=f"I tell {SECRET}"), Reply(text="nothing of it")])
    async with ProviderServer(lambda body: next(replies)).run() as server, rlm:
        monkeypatch.setenv("VLLM_BASE_URL", f"{server.url}/v1")
        run = rlm.start(f"Is it {SECRET}?", SECRET)
        followed = [event async for event in run]
        result = await run.result()
    assert SECRET in result.answer
    assert KEY in result.answer
    assert holding(settings.state_dir) == []
    (stored,) = (path for path in (settings.state_dir / "answers").rglob("*") if path.is_file())
    assert b"nothing of it" in stored.read_bytes()
    assert hooked
    assert SECRET not in repr(followed) + "".join(hooked)
    assert [len(events.of(kind)) for kind in (RunStarted, RunFinished)] == [2, 2]
    assert SECRET in (events.of(RunFinished)[-1].answer or "")
    with Recording(result.recording / EVENTS_FILE) as recording:
        call = recording.root.calls["s1"]
        record = recording.record(call.requested)
        assert isinstance(record.event, SubcallRequested)
        assert record.redacted == ["prompt"]
        assert fits(record.event.prompt, f"tell {SECRET}")
        struck = {type(record.event) for record in recording.records() if record.redacted}
    assert {RunStarted, CellStarted, CellOutput, RunFinished, ToolRequested, ToolReplied, SubcallReplied} <= struck


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


KILLED = """
import sys
from pathlib import Path
from rlm_kernel import RLM, Settings
from tests.docker.test_redaction import SECRET, without_secret

class Teller:
    def emit(self, event, node=""):
        print(event)

settings = Settings(model=sys.argv[1], state_dir=Path(sys.argv[2]), redact="keys", cache="write")
RLM(settings=settings, redact=without_secret, on_event=Teller()).completion("What is it?", SECRET)
"""


def test_nor_is_it_in_what_a_killed_run_leaves(settings: Settings, tmp_path: Path) -> None:
    """Each line is without it before it is written; what else a killed session leaves goes with the next sweep."""
    root = script(tmp_path, cell(f"print(context, {KEY!r})\nwhile True: pass"))
    state = tmp_path / "state"
    command = [sys.executable, "-u", "-c", KILLED, root, str(state)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        said = next(line for line in process.stdout if line.startswith("CellOutput"))
        process.kill()
    assert SECRET in said
    sweep(settings)
    assert (state / "sessions").is_dir()
    assert holding(state) == []
    (path,) = (state / "runs").rglob(EVENTS_FILE)
    with Recording(path) as recording:
        assert any(record.redacted for record in recording.records())
        assert recording.finished is None
