"""Files of jobs that mean harm: they end as an error, soon, and nothing of the machine gets into them."""

from __future__ import annotations

import os
import time
import tracemalloc
from pathlib import Path

import pytest

from rlm_kernel.config.job import read_job
from rlm_kernel.errors import RlmKernelError

NODE = "type: ai_agent\nprompt: x\n"
LAUGHS = "a0: &a0 [ha, ha]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))

HOSTILE = {
    "a billion laughs": (f"{LAUGHS}{NODE}context: {{value: *a39}}\n", "aliases are not taken"),
    "a loop of aliases": (f"{NODE}context: &a {{value: [*a]}}\n", "aliases are not taken"),
    "a merge": (f"{NODE}<<: *x\n", "aliases are not taken"),
    "an object": (f"{NODE}context: !!python/object/apply:os.system [true]\n", "tags are not taken"),
    "a tag of its own": (f"{NODE}context: !include /etc/passwd\n", "tags are not taken"),
    "lists in lists": (f"{NODE}context: {{value: {'[' * 5000}{']' * 5000}}}\n", "nests deeper than 50"),
    "indents in indents": (NODE + "".join(" " * n + f"a{n}:\n" for n in range(200)), "nests deeper than 50"),
    "a second prompt": (f"{NODE}prompt: y\n", "'prompt' stands twice"),
    "a list as a key": (f"{NODE}? [a]\n: b\n", "a key must be text"),
    "a huge number": (f"{NODE}settings: {{max_turns: {'9' * 30}}}\n", "so large a number"),
    "a longer number": (f"{NODE}settings: {{max_turns: {'9' * 100_000}}}\n", "so large a number"),
    "a number in words": (f"{NODE}settings: {{max_turns: '{'9' * 100_000}'}}\n", "at most 5,000 can be"),
    "a number with an exponent": (f"{NODE}settings: {{cell_timeout: 1e308}}\n", "so large a number"),
    "no number": (f"{NODE}settings: {{cell_timeout: .nan}}\n", "is not a duration"),
    "another engine": (f"{NODE}settings: {{docker_host: 'tcp://evil:1'}}\n", "the machine's own"),
    "the environment": (f"{NODE}context: /proc/self/environ\n", "outside of"),
    "up and away": (f"{NODE}context: {'../' * 50}etc/passwd\n", "outside of"),
    "a script that is none of ours": (f"{NODE}context: {{value: x}}\nmodel: 'scripted:/etc/passwd'\n", "outside of"),
    "a device by a link": (f"{NODE}context: null-device\n", "outside of"),
    "a pipe": (f"{NODE}context: pipe\n", "neither a file nor a folder"),
    "a link to itself": (f"{NODE}context: loop\n", "no path|nothing at"),
    "a long name": (f"{NODE}context: {'x' * 5000}\n", "File name too long"),
    "escape sequences": ('type: "\\e]0;evil\\a"\nprompt: x\n', "no workflow engine"),
    "a cycle": (
        "- {type: ai_agent, id: a, prompt: '{{nodes.b.answer}}'}\n- {type: ai_agent, id: b, prompt: x}",
        "no earlier",
    ),
}


@pytest.mark.parametrize("key", ["a", '"a"', "'a'"])
def test_a_key_without_end_is_refused_soon(key: str, tmp_path: Path) -> None:
    """A key of TOML with many parts would take its reader minutes."""
    path = tmp_path / "job.toml"
    path.write_text(f"{key}{f'.{key}' * 100_000} = 1\n")
    started = time.process_time()
    with pytest.raises(RlmKernelError, match="nests deeper than 50"):
        read_job(path)
    assert time.process_time() - started < 5


@pytest.mark.parametrize(("text", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_soon_and_in_little_memory(text: str, message: str, tmp_path: Path) -> None:
    """It is an error of ours that says why, in less than seconds, and the file is not what memory goes to."""
    (tmp_path / "null-device").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / "job.yaml"
    path.write_text(text)
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(RlmKernelError, match=message):
            read_job(path)
        assert time.process_time() - started < 10
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
