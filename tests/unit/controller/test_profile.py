"""Prompt profiles: which one is taken, what it says, and what is wrong with a broken one."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlm_kernel.controller.profile import PLACEHOLDERS, find_profile
from rlm_kernel.errors import ConfigError

VALUES = dict.fromkeys(PLACEHOLDERS, "some")


def write(folder: Path, name: str, settings: str, prompt: str = "") -> Path:
    """Write a profile's file."""
    file = folder / f"{name}.md"
    file.write_text(f"+++\n{settings}\n+++\n{prompt}")
    return file


@pytest.mark.parametrize(
    ("model", "name", "tools"),
    [
        ("openai:gpt-5", "gpt", True),
        ("openai:o3-mini", "gpt", True),
        ("openrouter:openai/gpt-5", "gpt", True),
        ("anthropic:claude-sonnet-4-5", "claude", True),
        ("gemini:gemini-2.5-pro", "gemini", True),
        ("openrouter:deepseek/deepseek-chat", "deepseek", True),
        ("openrouter:Qwen/Qwen3-Coder-480B-A35B", "qwen", False),
        ("ollama:qwen3:8b", "small", False),
        ("vllm:meta-llama/Llama-3.1-8B-Instruct", "small", False),
        ("ollama:gpt-oss:120b", "default", False),
        ("local:smollm2", "small", False),
        ("scripted:/x.md", "default", False),
        ("unheard:of", "default", False),
    ],
)
def test_a_models_name_chooses_its_profile(model: str, name: str, tools: bool) -> None:
    """Each family gets its own, all others the default."""
    profile = find_profile(model)
    assert (profile.name, profile.tools, profile.source) == (name, tools, "built in")


@pytest.mark.parametrize("model", ["openai:gpt-5", "anthropic:x", "gemini:x", "ollama:qwen3:8b", "vllm:qwen", "x:y"])
def test_a_built_in_prompt_has_no_gaps(model: str) -> None:
    """Every placeholder has a value, the settings stay out, and the way to finish is named once."""
    profile = find_profile(model)
    prompt = profile.system_prompt(VALUES)
    assert "$" not in prompt
    assert "+++" not in prompt
    assert "{tools}" not in prompt
    assert prompt.count("## How to finish") == 1
    assert ("the tool `python`" in prompt) is profile.tools
    assert ("```repl" in prompt) is not profile.tools
    assert "rlm_query" not in prompt
    assert "rlm_query(" in profile.system_prompt(VALUES, recursion=True)


def test_your_own_profile_goes_before_the_built_in_ones(tmp_path: Path) -> None:
    """However few letters its pattern has."""
    file = write(tmp_path, "mine", 'match = ["openai:*"]\ntools = false\nwindow = 9000', "Only this.")
    profile = find_profile("openai:gpt-5", tmp_path)
    assert (profile.name, profile.source, profile.tools, profile.window) == ("mine", str(file), False, 9000)
    assert profile.system_prompt(VALUES) == "Only this."


def test_the_pattern_with_the_most_letters_wins(tmp_path: Path) -> None:
    """And a pattern's case does not matter."""
    write(tmp_path, "all", 'match = ["*"]')
    write(tmp_path, "exact", 'match = ["OpenAI:gpt-5"]')
    assert find_profile("openai:gpt-5", tmp_path).name == "exact"
    assert find_profile("openai:gpt-5-mini", tmp_path).name == "all"


def test_sections_are_inherited_replaced_added_and_taken_away(tmp_path: Path) -> None:
    """By their titles; what stands before the first one is a section, too."""
    write(tmp_path, "base", "tools = true", "Hello.\n\n## One\n\n1\n\n## Two\n\n2\n\n## Three {fences}\n\n3")
    write(tmp_path, "mine", 'inherits = "base"\n[request]\ntemperature = 0.2', "## Two\n\nII\n\n## Four\n4\n\n## One\n")
    profile = find_profile("x:y", tmp_path, "mine")
    assert profile.system_prompt({}) == "Hello.\n\n## Two\n\nII\n\n## Four\n\n4"
    assert (profile.tools, profile.request) == (True, {"temperature": 0.2})


def test_a_file_of_a_built_in_name_takes_its_place(tmp_path: Path) -> None:
    """For those that inherit from it, too."""
    write(tmp_path, "default", 'match = ["*"]', "Mine.")
    assert find_profile("openai:gpt-5", tmp_path).system_prompt({}) == find_profile("x:y", tmp_path).system_prompt({})


def test_a_profile_may_be_chosen_by_name_or_path(tmp_path: Path) -> None:
    """Whatever the model is called."""
    file = write(tmp_path, "mine", "", "Mine.")
    assert find_profile("openai:gpt-5", None, "claude").name == "claude"
    assert find_profile("openai:gpt-5", None, str(file)).system_prompt({}) == "Mine."


def test_the_digest_is_that_of_what_was_read(tmp_path: Path) -> None:
    """It changes with the file, and with the one it inherits from."""
    write(tmp_path, "base", "", "One.")
    write(tmp_path, "mine", 'inherits = "base"', "## X\ny")
    first = find_profile("x:y", tmp_path, "mine").digest
    assert find_profile("x:y", tmp_path, "mine").digest == first
    write(tmp_path, "base", "", "Two.")
    assert find_profile("x:y", tmp_path, "mine").digest != first


def test_what_looks_like_a_heading_in_a_fence_is_none(tmp_path: Path) -> None:
    """Comments in examples stay where they are."""
    write(tmp_path, "mine", "", "Look:\n\n```repl\n## count\nx\n```\n\n$$5 for ${max_turns}")
    assert "## count\nx" in find_profile("x:y", tmp_path, "mine").system_prompt({"max_turns": 3})
    assert find_profile("x:y", tmp_path, "mine").system_prompt({"max_turns": 3}).endswith("$5 for 3")


BROKEN = [
    ("Just a prompt.", 1, "begins with a line"),
    ('+++\nmatch = ["a"]\nPrompt.', 1, "no line"),
    ("+++\nmatch = [\n+++\n", 2, ""),
    ("+++\nmatch = []\ntools = = 1\n+++\n", 3, "Invalid value"),
    ('+++\ntools = true\nmatsch = ["a"]\n+++\n', 3, "matsch"),
    ('+++\nmatch = ["a"]\ntools = "yes"\n+++\n', 3, "tools"),
    ("+++\n[request]\ntemperature = 0.5\nmax_tokens = 9\n+++\n", 4, "'max_tokens' in a request"),
    ("+++\nwindow = 0\n+++\n", 2, "window"),
    ('+++\ninherits = "nobody"\n+++\n', 1, "nobody"),
    ("+++\n+++\nYou have\n$max_turn turns.", 4, "max_turn stands for nothing"),
    ("+++\n+++\nIt costs 5$.", 3, "stands alone"),
    ("+++\n+++\nHello.\n\n## How {tool}\n", 5, "'tool'"),
]


@pytest.mark.parametrize(("text", "line", "words"), BROKEN, ids=[words or "toml" for _, _, words in BROKEN])
def test_a_broken_profile_is_named_with_its_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    """Whoever wrote it finds the place, also if no model is led by it."""
    file = tmp_path / "mine.md"
    file.write_text(text)
    with pytest.raises(ConfigError, match=rf"{file}, line {line}: .*{words}"):
        find_profile("x:y", tmp_path, "mine")


def test_profiles_that_inherit_from_each_other_are_refused(tmp_path: Path) -> None:
    """Without end there is no prompt."""
    write(tmp_path, "a", 'inherits = "b"')
    write(tmp_path, "b", 'inherits = "a"')
    with pytest.raises(ConfigError, match="which inherits from it"):
        find_profile("x:y", tmp_path, "a")


@pytest.mark.parametrize("chosen", ["nobody", "folder/nobody.md"])
def test_a_profile_that_is_not_there_is_refused(chosen: str) -> None:
    """With the names of those that are, or the path."""
    with pytest.raises(ConfigError, match=r"claude, deepseek, default|nobody\.md can't be read"):
        find_profile("x:y", None, chosen)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """It is named."""
    (tmp_path / "mine.md").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"mine\.md can't be read"):
        find_profile("x:y", tmp_path)


def test_a_folder_that_is_not_there_holds_no_profiles(tmp_path: Path) -> None:
    """Most people have none."""
    assert find_profile("x:y", tmp_path / "none").name == "default"
