"""Settings: where they come from, what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlm_kernel.config import (
    DEFAULT_MODEL,
    DEFAULT_SUB_MODEL,
    LEAST_MEMORY,
    SETTINGS,
    Settings,
    for_provider,
    parse_duration,
    parse_size,
    resolve,
)
from rlm_kernel.errors import ConfigError
from rlm_kernel.session.slot import KERNEL_MEMORY


@pytest.mark.parametrize(
    ("text", "size"),
    [("1048576", 2**20), ("512m", 2**29), ("2g", 2**31), ("1.5GiB", 3 * 2**29), ("64 MB", 2**26), ("7b", 7)],
)
def test_sizes_are_read_in_powers_of_1024(text: str, size: int) -> None:
    """A size may have a unit, in either case, with or without `b` and `ib`."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "2 gigs", "g", "1e9"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """What is not a number with a known unit is an error that shows what one looks like."""
    with pytest.raises(ValueError, match="512m"):
        parse_size(text)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("5m", 300), ("1.5h", 5400), ("0.5", 0.5)])
def test_durations_may_have_a_unit(text: str, seconds: float) -> None:
    """A duration is in seconds unless its unit says otherwise."""
    assert parse_duration(text) == seconds


def test_the_command_line_beats_the_environment_which_beats_the_default() -> None:
    """The three sources are asked in this order, setting by setting."""
    env = {"RLM_KERNEL_MEMORY": "2g", "RLM_KERNEL_PIDS": "64", "PATH": "/bin"}
    settings = resolve({"memory": "512m", "cpus": None}, env)
    assert (settings.memory, settings.pids, settings.cpus) == (2**29, 64, 1.0)


def test_an_empty_variable_counts_as_not_set() -> None:
    """`RLM_KERNEL_X=` leaves the default in place."""
    assert resolve({}, {"RLM_KERNEL_MEMORY": ""}).memory == Settings().memory


def test_the_default_sub_model_belongs_to_the_default_model_only() -> None:
    """Whoever chooses a root model gets it for sub-calls too, unless another one is named."""
    assert (resolve({}, {}).model, resolve({}, {}).sub_model) == (DEFAULT_MODEL, DEFAULT_SUB_MODEL)
    assert resolve({"model": "local:smollm2"}, {}).sub_model is None


def test_an_unknown_variable_is_an_error_that_names_the_nearest_known_one() -> None:
    """A typing mistake in the environment does not pass unseen."""
    with pytest.raises(ConfigError, match=r"RLM_KERNEL_MEMROY means nothing; did you mean RLM_KERNEL_MEMORY\?"):
        resolve({}, {"RLM_KERNEL_MEMROY": "1g"})


def test_an_unknown_option_is_an_error_that_names_the_nearest_known_one() -> None:
    """The same holds for names given by a program."""
    with pytest.raises(ConfigError, match=r"'max_turn'; did you mean max_turns\?"):
        resolve({"max_turn": "3"}, {})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("memory", "lots", "--memory: 'lots' is not a size"),
        ("memory", "223m", "--memory must be at least 224m, not 223m"),
        ("max_turns", "0", "--max-turns must be at least 1"),
        ("max_turns", "two", "--max-turns: 'two' is not a whole number"),
        ("max_turns", "none", "--max-turns: 'none' is not a whole number"),
        ("cpus", "nan", "--cpus must be at least 0.1"),
        ("cpus", "inf", "--cpus must be at most 1024, not inf"),
        ("carrier", "pigeon", "none of auto, socket, attach"),
        ("model", " ", "--model is empty"),
        ("uid_first", "999", "--uid-first must be at least 1000, not 999"),
        ("uid_last", "39999", "below --uid-first"),
        ("uid_last", "65534", "--uid-last must be at most 65533, not 65534"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_options_name(name: str, text: str, message: str) -> None:
    """Each error names the option and what it wants."""
    with pytest.raises(ConfigError, match=message):
        resolve({name: text}, {})


def test_a_bad_value_from_the_environment_names_its_variable() -> None:
    """The reader learns where the bad value came from."""
    with pytest.raises(ConfigError, match="RLM_KERNEL_CPUS: 'two' is not a number"):
        resolve({}, {"RLM_KERNEL_CPUS": "two"})


def test_settings_made_in_code_are_checked_too() -> None:
    """The API can't get past the checks of the command line."""
    with pytest.raises(ConfigError, match="--pids must be at least"):
        Settings(pids=1)


def test_the_least_memory_leaves_room_for_a_session() -> None:
    """What the settings allow is more than a kernel without a context needs, so no session starts in vain."""
    assert LEAST_MEMORY > KERNEL_MEMORY
    assert Settings(memory=LEAST_MEMORY).memory == LEAST_MEMORY


def test_none_lifts_an_optional_limit_and_nothing_else() -> None:
    """`none` on the command line undoes a limit from the environment."""
    assert resolve({"run_timeout": "none"}, {"RLM_KERNEL_RUN_TIMEOUT": "5m"}).run_timeout is None


def test_the_state_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Recordings and contexts lie under XDG_STATE_HOME."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert resolve({}, {}).state_dir == tmp_path / "rlm_kernel"
    assert resolve({}, {}).contexts_dir.parent == resolve({}, {}).runs_dir.parent


def test_every_setting_is_in_the_recordings_form_as_plain_json() -> None:
    """The recording can hold all settings."""
    values = Settings().as_json()
    assert set(values) == {setting.name for setting in SETTINGS}
    assert all(isinstance(value, str | int | float | None) for value in values.values())


@pytest.mark.parametrize(("text", "value"), [("1", True), (" Yes", True), ("on", True), ("0", False), ("FALSE", False)])
def test_a_flag(text: str, value: bool) -> None:
    """What is on or off can be said in the usual words, and anything else is an error that names its origin."""
    assert resolve({}, {"RLM_KERNEL_REBUILD": text}).rebuild is value
    assert resolve({"rebuild": "False"}, {"RLM_KERNEL_REBUILD": text}).rebuild is False
    with pytest.raises(ConfigError, match="RLM_KERNEL_REBUILD: 'maybe' is neither"):
        resolve({}, {"RLM_KERNEL_REBUILD": "maybe"})


def test_a_limit_may_be_for_each_provider_or_for_some() -> None:
    """One number is every provider's; a list names some, and leaves the others without."""
    every = resolve({"requests_per_minute": "500"}, {}).requests_per_minute
    some = resolve({}, {"RLM_KERNEL_REQUESTS_PER_MINUTE": "openai=500, vllm=50"}).requests_per_minute
    assert [for_provider(every, provider) for provider in ("openai", "vllm", "gemini")] == [500] * 3
    assert [for_provider(some, provider) for provider in ("openai", "vllm", "gemini")] == [500, 50, None]
    assert for_provider(Settings().requests_per_minute, "openai") is None


@pytest.mark.parametrize(
    "text", ["0", "many", "openai=", "openai=x", "openai=0", "=5", "openai=5,openai=6", "a=1,,b=2"]
)
def test_a_limit_that_cannot_be_is_refused(text: str) -> None:
    """What is no limit is an error, from the command line and in code."""
    with pytest.raises(ConfigError, match="--tokens-per-minute"):
        resolve({"tokens_per_minute": text}, {})
    with pytest.raises(ConfigError, match="--tokens-per-minute"):
        Settings(tokens_per_minute=0 if text == "0" else text)
