"""From settings to the way in which the root model is led."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlm_kernel.assembly.prompting import known_window, listener, root_profile, subcall_characters
from rlm_kernel.config import Settings, resolve
from rlm_kernel.errors import ConfigError
from rlm_kernel.models.model import TextDelta


def test_the_setting_for_tools_goes_before_the_profile(tmp_path: Path) -> None:
    """`auto` leaves it to the profile."""

    def tools(model: str, when: str) -> bool:
        return root_profile(
            resolve({"model": model, "tool_calling": when, "profiles_dir": str(tmp_path)}, {}), model
        ).tools

    assert [tools("openai:gpt-5", when) for when in ("auto", "on", "off")] == [True, True, False]
    assert [tools("vllm:x", when) for when in ("auto", "on", "off")] == [False, True, False]


@pytest.mark.parametrize(
    ("model", "window"),
    [
        ("anthropic:claude-sonnet-4-5", 200_000),
        ("openai:gpt-4o", 128_000),
        ("openai:no-such-model", None),
        ("local:smollm2", 4096),
        ("vllm:x", None),
        ("scripted:/x.md", None),
        ("nonsense", None),
    ],
)
def test_the_window_is_that_of_the_lists(model: str, window: int | None) -> None:
    """What no list knows is unknown."""
    assert known_window(model) == window


def test_the_setting_for_the_window_goes_before_profile_and_list(tmp_path: Path) -> None:
    """In that order."""
    (tmp_path / "mine.md").write_text('+++\nmatch = ["openai:gpt-4o"]\nwindow = 5000\n+++\n')
    settings = Settings(model="openai:gpt-4o", profiles_dir=tmp_path)
    assert root_profile(settings, "openai:gpt-4o").window == 5000
    own = Settings(model="openai:gpt-4o", profiles_dir=tmp_path, model_window=7000)
    assert root_profile(own, "openai:gpt-4o").window == 7000
    assert root_profile(own, "anthropic:claude-sonnet-4-5").window == 200_000
    none = Settings(model="openai:gpt-4o", profiles_dir=tmp_path / "none")
    assert root_profile(none, "openai:gpt-4o").window == 128_000


@pytest.mark.parametrize(
    ("model", "characters"),
    [
        ("anthropic:claude-sonnet-4-5", 500_000),
        ("openai:gpt-4o", 384_000),
        ("local:smollm2", 12_000),
        ("vllm:mine", 15_000),
        ("vllm:x", 500_000),
    ],
)
def test_what_a_subcall_reads_is_told_by_the_models_window(tmp_path: Path, model: str, characters: int) -> None:
    """A profile's window counts too; where none is known, it is what most models read."""
    (tmp_path / "mine.md").write_text('+++\nmatch = ["vllm:mine"]\nwindow = 5000\n+++\n')
    settings = Settings(model="openai:gpt-4o", profiles_dir=tmp_path)
    assert subcall_characters(settings, model) == characters


def test_a_profile_may_be_forced(tmp_path: Path) -> None:
    """By name or path, on the command line or in the environment, for the run's root model."""
    given = resolve({"profile": "small", "profiles_dir": str(tmp_path)}, {})
    assert root_profile(given, given.model).name == "small"
    assert root_profile(given, "anthropic:x").name == "claude"
    set_ = resolve({}, {"RLM_KERNEL_PROFILE": "qwen"})
    assert root_profile(set_, set_.model).name == "qwen"
    with pytest.raises(ConfigError, match="there is no profile 'smal'"):
        root_profile(Settings(profile="smal", profiles_dir=tmp_path), Settings().model)


def test_your_profiles_are_where_your_settings_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Under XDG_CONFIG_HOME."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert resolve({}, {}).profiles_dir == tmp_path / "rlm_kernel" / "profiles"


def test_replies_are_streamed_where_somebody_listens() -> None:
    """`on` streams for nobody, too, and `off` for nobody at all."""
    heard: list[TextDelta] = []
    assert listener(Settings(), None) is None
    assert listener(Settings(), heard.append) == heard.append
    assert listener(Settings(stream="off"), heard.append) is None
    silent = listener(Settings(stream="on"), None)
    assert silent is not None
    silent(TextDelta("text", "x"))


@pytest.mark.parametrize("name", ["tool_calling", "stream"])
def test_a_word_that_is_no_choice_is_refused(name: str) -> None:
    """With the choices."""
    with pytest.raises(ConfigError, match="'maybe' is none of auto, on, off"):
        resolve({name: "maybe"}, {})
