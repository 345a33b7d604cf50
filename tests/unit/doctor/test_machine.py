"""What the doctor sees of a machine, and that it names what mends it."""

from __future__ import annotations

import pwd
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rlm_kernel.config import Settings
from rlm_kernel.doctor.check import Check
from rlm_kernel.doctor.machine import (
    check_local_model,
    check_memory,
    check_other_runtimes,
    check_python,
    check_state_folder,
    check_user_ids,
)
from rlm_kernel.doctor.models import check_keys


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a state folder of the test's own."""
    return Settings(state_dir=tmp_path / "state")


def states(checks: Iterator[Check]) -> dict[str, str]:
    """Return each check's state; a problem always says what mends it."""
    found = list(checks)
    assert all(check.remedy for check in found if check.state == "problem")
    assert all(check.seen and check.title for check in found)
    return {check.name: check.state for check in found}


@pytest.mark.parametrize(("version", "state"), [((3, 10, 9), "problem"), ((3, 11, 0), "ok"), ((3, 14, 1), "ok")])
def test_python(settings: Settings, version: tuple[int, ...], state: str) -> None:
    """An old Python is a problem."""
    assert states(check_python(settings, version)) == {"python": state}


def test_a_state_folder_that_can_be_used(settings: Settings, tmp_path: Path) -> None:
    """The folder is tried where it is or will be, and nothing is left there, not even the folder."""
    assert states(check_state_folder(settings))["state-folder"] == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_state_folder_that_can_not(settings: Settings, tmp_path: Path) -> None:
    """Where no file can be made, that is a problem."""
    (tmp_path / "state").write_text("no folder")
    assert states(check_state_folder(settings)) == {"state-folder": "problem"}
    assert states(check_state_folder(Settings(state_dir=Path("/proc/state")))) == {"state-folder": "problem"}


def test_a_state_folder_over_two_file_systems(settings: Settings) -> None:
    """Contexts that can't be linked into sessions are a problem."""
    settings.contexts_dir.mkdir(parents=True)
    settings.sessions_dir.symlink_to("/dev/shm")
    assert states(check_state_folder(settings)) == {"state-folder": "problem"}


def test_a_full_disk(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Little room is worth a note, hardly any is a problem."""
    for free, state in ((2**20, "problem"), (2**30, "note"), (2**40, "ok")):
        monkeypatch.setattr("shutil.disk_usage", lambda place, free=free: type("Usage", (), {"free": free}))
        assert states(check_state_folder(settings))["disk"] == state


def account(uid: int) -> pwd.struct_passwd:
    """Return an account with this id."""
    return pwd.struct_passwd(("someone", "x", uid, uid, "", "/", "/bin/sh"))


@pytest.mark.parametrize(
    ("first", "last", "taken", "state"),
    [
        (40_000, 49_999, [1000, 65534], "ok"),
        (40_000, 49_999, [40_000], "note"),
        (40_000, 40_010, [], "note"),
        (1000, 1001, [1000, 1001], "problem"),
    ],
)
def test_user_ids(settings: Settings, first: int, last: int, taken: list[int], state: str) -> None:
    """Accounts in the range are told; a range without a free id is a problem."""
    changed = replace(settings, uid_first=first, uid_last=last)
    assert states(check_user_ids(changed, lambda: [account(uid) for uid in taken])) == {"user-ids": state}


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("MemTotal: 9 kB\nMemAvailable: 2000000 kB\n", "ok"),
        ("MemAvailable: 500000 kB\n", "problem"),
        ("MemTotal: 9 kB\n", "note"),
    ],
)
def test_memory(settings: Settings, tmp_path: Path, text: str, state: str) -> None:
    """Less free memory than one session may take is a problem."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(text)
    assert states(check_memory(settings, meminfo)) == {"memory": state}


@pytest.mark.parametrize(
    ("model", "env", "state"),
    [
        ("openai:gpt-5", {}, "problem"),
        ("openai:gpt-5", {"OPENAI_API_KEY": " "}, "problem"),
        ("openai:gpt-5", {"OPENAI_API_KEY": "sk-secret"}, "ok"),
        ("anthropic:claude", {"OPENAI_API_KEY": "sk-secret"}, "problem"),
        ("ollama:llama", {}, "ok"),
        ("scripted:turns.md", {}, "ok"),
        ("gpt-5", {}, "problem"),
        ("opnai:gpt-5", {}, "problem"),
    ],
)
def test_keys(settings: Settings, model: str, env: dict[str, str], state: str) -> None:
    """A key that is missing is a problem; one that is set is never shown."""
    found = list(check_keys(replace(settings, model=model), env))
    assert states(iter(found)) == {"model": state}
    assert "sk-secret" not in repr(found)
    both = check_keys(replace(settings, model=model, sub_model=model), env)
    assert states(both) == {"model": state, "sub-model": state}


@pytest.mark.parametrize("look", [check_local_model, check_other_runtimes])
def test_what_is_only_worth_knowing(settings: Settings, look: Callable[[Settings], Iterator[Check]]) -> None:
    """What sessions don't need is never a problem."""
    assert set(states(look(settings)).values()) <= {"ok", "note"}
