"""What of a recording counts, and what is no longer as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel.assembly.rerun.recorded import LED, LIMITS, changed, recorded_context, recorded_settings
from rlm_kernel.config import SETTINGS, Settings
from rlm_kernel.errors import ConfigError, ContextMissing
from rlm_kernel.events import ContextStored, ProfileChosen, RunStarted, SandboxStarted
from rlm_kernel.recording import Recording, RecordingLog, new_run_id
from rlm_kernel.sandbox.contexts import ContextStore
from rlm_kernel.sandbox.given import Contexts
from rlm_kernel.types import JSON

HOSTILE = [{"a": 1}, [1], "\x1b[2J", 10**40, -1, 1e308, "x" * 10_000, "../../x", "", True, "none", "openai=5"]


@contextmanager
def recorded(folder: Path, settings: dict[str, JSON] | None = None, *more: Any, **started: Any) -> Iterator[Recording]:
    """Give the recording of a run with `settings` and `more` events."""
    given = {
        "question": "?",
        "model": "openai:a",
        "sub_model": "openai:b",
        "package_version": "0",
        "python_version": "3",
    }
    run = new_run_id()
    with RecordingLog(folder, run) as log:
        log.emit(RunStarted(run=run, settings=settings or {}, **(given | started)))
        for event in more:
            log.emit(event)
    with Recording(log.path) as recording:
        yield recording


def test_what_leads_the_model_is_as_recorded(tmp_path: Path) -> None:
    """Models and every allowed setting are taken over; one that is given stays."""
    settings: dict[str, JSON] = {
        "max_turns": 90,
        "shown_output": 900,
        "rebuild": True,
        "max_cost": 2.5,
        "profile": "gpt",
    }
    with recorded(tmp_path, settings) as recording:
        found = recorded_settings(recording, Settings(), given={"shown_output", "sub_model"})
    assert (found.model, found.sub_model) == ("openai:a", None)
    assert (found.max_turns, found.rebuild, found.max_cost, found.profile) == (90, True, 2.5, "gpt")
    assert found.shown_output == Settings().shown_output


def test_everything_else_is_the_users_own(tmp_path: Path) -> None:
    """No place, no engine, no limit of the container, no way to a provider comes out of a recording."""
    settings: dict[str, JSON] = {
        "state_dir": "/elsewhere",
        "profiles_dir": "/elsewhere",
        "docker_host": "tcp://elsewhere:1",
        "oci_runtime": "weak",
        "memory": 2**40,
        "pids": 10**6,
        "uid_first": 1000,
        "carrier": "attach",
        "cache": "write",
        "keep_recording": False,
        "unknown_prices": "tokens",
        "request_timeout": 10**6,
        "retry_attempts": 100,
        "pool_size": 1000,
        "max_sessions": 10_000,
        "profile": "/elsewhere/profile.md",
    }
    said: list[str] = []
    with recorded(tmp_path, settings) as recording:
        found = recorded_settings(recording, Settings(), given={"model", "sub_model"}, tell=said.append)
    assert found == Settings()
    assert said == ["the recorded --profile does not count: a path counts only where it is given anew, with --profile"]


@pytest.mark.parametrize(
    ("theirs", "own", "count"),
    [("keys", None, "keys"), ("keys", "/x/", "/x/"), (None, "keys", "keys"), ("/(a+)+b/", None, None), (7, None, None)],
)
def test_what_was_kept_out_stays_out(tmp_path: Path, theirs: JSON, own: str | None, count: str | None) -> None:
    """Unless the user has a word of their own on it. An expression of someone else's, which may hang, never counts."""
    said: list[str] = []
    with recorded(tmp_path, {"redact": theirs}) as recording:
        assert recorded_settings(recording, Settings(redact=own), tell=said.append).redact == count
        assert recorded_settings(recording, Settings(), given={"redact"}).redact is None
    assert bool(said) == (count is None)
    assert all("--redact" in line for line in said)


def test_the_list_of_what_counts_is_whole() -> None:
    """Each name is a setting's, and none of them is in both lists."""
    assert {setting.name for setting in SETTINGS} >= LED | LIMITS
    assert not LED & LIMITS


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:20])
def test_values_that_can_not_be_are_passed_over(tmp_path: Path, value: JSON) -> None:
    """Whatever a recording has under a setting's name, there are settings, and what is wrong is said in a line."""
    said: list[str] = []
    with recorded(tmp_path, {setting.name: value for setting in SETTINGS}, model=str(value)) as recording:
        found = recorded_settings(recording, Settings(), tell=said.append)
    for field in fields(found):
        setting = next(each for each in SETTINGS if each.name == field.name)
        setting.check(getattr(found, field.name))
    assert said
    assert all(len(line) < 600 for line in said)


def test_a_limit_of_the_users_own_is_never_lifted(tmp_path: Path) -> None:
    """What the user allows every run bounds a recorded one too; a tighter recorded limit counts."""
    own = Settings(max_cost=0.5, max_subcalls=100, max_turns=5)
    with recorded(tmp_path, {"max_cost": None, "max_subcalls": 10, "max_turns": 500}) as recording:
        found = recorded_settings(recording, own)
        lifted = recorded_settings(recording, own, given={"max_cost"})
    assert (found.max_cost, found.max_subcalls, found.max_turns) == (0.5, 10, 5)
    assert lifted.max_cost == 0.5


def test_a_recorded_script_is_not_opened(tmp_path: Path) -> None:
    """A recording names no file of this machine; the message says what to give."""
    said: list[str] = []
    with recorded(tmp_path, model="scripted:/etc/passwd") as recording:
        found = recorded_settings(recording, Settings(), tell=said.append)
    assert found.model == Settings().model
    assert "--model" in said[0]


def test_names_of_later_versions_are_said_once(tmp_path: Path) -> None:
    """Settings that nobody knows are one line, with some of their names."""
    said: list[str] = []
    with recorded(tmp_path, {f"new_{number}": number for number in range(100)}) as recording:
        recorded_settings(recording, Settings(), tell=said.append)
    assert len(said) == 1
    assert "new_0" in said[0]


def stored_event(store: ContextStore, value: str, name: str = "context") -> ContextStored:
    """Return the event for a text that `store` then has."""
    stored = store.put_value(value)
    return ContextStored(digest=stored.digest, kind="str", size=stored.size, source="value", name=name)


async def test_a_runs_contexts_are_found_again(tmp_path: Path) -> None:
    """One without a name is itself, several keep their names and their order; what is given takes its name's place."""
    store = ContextStore(tmp_path / "store")
    memory = Settings().memory
    with recorded(tmp_path, {}, stored_event(store, "one")) as recording:
        [part] = (await recorded_context(store, recording, memory)).parts
        assert (part.preview, part.name) == ("one", "context")
    two = [stored_event(store, "one", "first"), stored_event(store, "two", "second")]
    with recorded(tmp_path, {}, *two) as recording:
        parts = (await recorded_context(store, recording, memory)).parts
        assert [(part.name, part.preview) for part in parts] == [("first", "one"), ("second", "two")]
        other = await recorded_context(store, recording, memory, Contexts(second="2"))
        assert [part.preview for part in other.parts] == ["one", "2"]
        [named] = changed(recording, stored=other)
        assert "the context 'second' is another one" in named
        assert changed(recording, stored=await recorded_context(store, recording, memory)) == []
        with pytest.raises(ConfigError, match="no context 'third'; it has first, second"):
            await recorded_context(store, recording, memory, Contexts(third="2"))


async def test_a_missing_context_can_be_given_again(tmp_path: Path) -> None:
    """Without a name it stands for the only one."""
    store = ContextStore(tmp_path / "store")
    event = stored_event(store, "gone", "report")
    (tmp_path / "store" / event.digest).unlink()
    with recorded(tmp_path, {}, event) as recording:
        with pytest.raises(ContextMissing):
            await recorded_context(store, recording, Settings().memory)
        again = await recorded_context(store, recording, Settings().memory, "gone")
        assert [part.name for part in again.parts] == ["report"]
        assert changed(recording, stored=again) == []


@pytest.mark.parametrize("names", [["__class__"], ["a", "a"], ["llm_query"], ["a b"], ["context", "a"], [], ["a"] * 51])
async def test_hostile_names_of_contexts_are_refused(tmp_path: Path, names: list[str]) -> None:
    """A recorded name has to be one that a context may have."""
    store = ContextStore(tmp_path / "store")
    events = [stored_event(store, "x", name) for name in names]
    with recorded(tmp_path, {}, *events) as recording, pytest.raises(ConfigError):
        await recorded_context(store, recording, Settings().memory)


def sandbox(**changes: Any) -> SandboxStarted:
    """Return the event of a sandbox."""
    given: dict[str, Any] = {
        "runtime": "docker",
        "oci_runtime": "runc",
        "engine": "docker 1",
        "container": "c",
        "image": "image:1",
        "image_id": "sha256:1",
        "carrier": "socket",
        "uid": 40_000,
        "seen": {},
        "packages": {"python": "3.11.7", "numpy": "2.1"},
    }
    return SandboxStarted(**(given | changes))


def test_each_change_is_named(tmp_path: Path) -> None:
    """Versions, image, packages, profile and lower limits, each with what it was; what is the same is not said."""
    profile = ProfileChosen(name="gpt", source="built in", digest="d1", tools=True)
    with recorded(tmp_path, {"memory": 2**31, "max_turns": 30, "cpus": 0.5}, sandbox(), profile) as recording:
        said = changed(recording, Settings(), sandbox=sandbox(), profile=profile)
        assert [line.split(" is ")[0] for line in said] == ["rlm_kernel", "the host's Python", "--memory"]
        other = sandbox(image_id="sha256:2", packages={"python": "3.11.7", "numpy": "2.2", "scipy": "1"})
        now = ProfileChosen(name="gpt", source="mine.md", digest="d2", tools=True)
        said = changed(recording, sandbox=other, profile=now)
    assert said == [
        "the sandbox image is another one: image:1 (sha256:2), it was image:1 (sha256:1)",
        "numpy in the sandbox is 2.2, it was 2.1",
        "scipy in the sandbox is 1, it was not there",
        "the prompt profile is 'gpt' (SHA-256 d2), it was 'gpt' (SHA-256 d1)",
    ]
