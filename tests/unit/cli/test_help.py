"""What `--help` shows."""

from __future__ import annotations

import re

import pytest

from rlm_kernel.config import SETTINGS
from tests.unit.cli.conftest import RunCommand


def test_each_command_has_a_line_that_is_whole(command: RunCommand) -> None:
    """The commands come in the order in which one meets them, each with a sentence that is not cut."""
    listed = command("--help").out.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    names = [
        "run",
        "chat",
        "resume",
        "fork",
        "demo",
        "runs",
        "export",
        "replay",
        "config",
        "doctor",
        "audit",
        "image",
        "gc",
    ]
    assert [line.split()[0] for line in listed] == names
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


@pytest.mark.parametrize("name", ["run", "chat", "resume", "fork", "config"])
def test_every_setting_stands_under_what_it_is_about(command: RunCommand, name: str) -> None:
    """A command's own options come first, then each group of settings under its own words."""
    _, *sections = re.split(r"^(\S.*):\n", command(name, "--help").out, flags=re.MULTILINE)
    options = {
        words: re.findall(r"^  (--[\w-]+)", text, re.MULTILINE)
        for words, text in zip(sections[::2], sections[1::2], strict=True)
    }
    assert next(iter(options)) == "Options"
    assert not {setting.option for setting in SETTINGS} & set(options.pop("Options"))
    assert options == {
        group: [setting.option for setting in SETTINGS if setting.group == group]
        for group in dict.fromkeys(setting.group for setting in SETTINGS)
    }
    assert all(len(group) < 70 for group in options)
