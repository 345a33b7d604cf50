"""The demonstration: a real long text, a question whose answer can be checked, models that need no key."""

from __future__ import annotations

import os
import platform
import re
import shlex
import sysconfig
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlm_kernel.config import Settings, resolve
from rlm_kernel.errors import ConfigError
from rlm_kernel.storage import private_folder, storing, unfinished_file

if TYPE_CHECKING:
    from rlm_kernel.assembly import RunResult

QUESTION = "Who is credited as the author of the most files of Python's email package?"
SCRIPT = Path(__file__).with_name("demo_root.md")
SUB_MODEL = "local:smollm2"
SUB_MODEL_TOKENS = 12
"""A name is short, and what a small model says after it is noise."""

_LEFT_OUT = {"__pycache__", "config", "dist-packages", "idlelib", "lib2to3", "site-packages", "test", "tests"}
_HEADING = re.compile(r"^=== (\S+) ===$", re.MULTILINE)
_CREDIT = re.compile(r"^# *Authors?: *(.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the demo's answer is right, and why, in words."""

    right: bool
    text: str


def demo_settings() -> Settings:
    """Return the settings of the demo; the environment may set anything but the models and their output limit."""
    return resolve({"model": f"scripted:{SCRIPT}", "sub_model": SUB_MODEL, "max_reply_tokens": str(SUB_MODEL_TOKENS)})


def write_text(state_dir: Path) -> Path:
    """Write the standard library's source as one file, each part under a heading, unless it is there; return its path.

    Raise `ConfigError` where this Python came without its source, `StorageFull` or `StorageError`.
    """
    path = state_dir / "demo" / f"python-{platform.python_version()}-library.txt"
    with storing(path):
        if path.exists():
            return path
    library = Path(sysconfig.get_path("stdlib"))
    files = sorted(file for file in library.rglob("*.py") if _LEFT_OUT.isdisjoint(file.relative_to(library).parts))
    if not any(file.parent.name == "email" for file in files):
        raise ConfigError(f"the demo reads the source of Python's standard library, and {library} has none")
    parts = ((file, file.read_text(encoding="utf-8", errors="replace").replace("\0", "")) for file in files)
    text = "".join(f"=== {file.relative_to(library).as_posix()} ===\n{source}\n" for file, source in parts)
    private_folder(path.parent)
    with storing(path.parent):
        handle, part = unfinished_file(path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                part.rename(path)
        finally:
            part.unlink(missing_ok=True)
    return path


def expected(text: str) -> str:
    """Return the right answer, found without any model: the names in the credit lines, counted."""
    names: Counter[str] = Counter()
    parts = _HEADING.split(text)[1:]
    for heading, source in zip(parts[::2], parts[1::2], strict=True):
        if heading.startswith("email/"):
            for line in _CREDIT.findall(source):
                names.update(re.split(r", *| and ", line))
    return names.most_common(1)[0][0]


def judge(result: RunResult[Any], path: Path) -> Verdict:
    """Check the answer against `expected`, and that the sub-model had a part in it."""
    right = expected(path.read_text(encoding="utf-8"))
    used = result.usage.get(SUB_MODEL)
    if used is None or not used.calls:
        return Verdict(False, f"WRONG: the sub-model {SUB_MODEL} was never called")
    if result.answer.strip() != right:
        return Verdict(False, f"WRONG: a count without any model says {right!r}")
    return Verdict(True, f"Right: a count without any model says {right!r} too ({used.calls} sub-calls)")


def next_steps(path: Path, env: Mapping[str, str]) -> list[str]:
    """Return how to ask the same with a model behind a key."""
    choices = {
        "OPENAI_API_KEY": ("openai:gpt-5", "openai:gpt-5-mini"),
        "ANTHROPIC_API_KEY": ("anthropic:claude-sonnet-4-5", "anthropic:claude-haiku-4-5"),
    }
    asked = f"--context {shlex.quote(str(path))} {shlex.quote(QUESTION)}"
    commands = [
        f"  rlm-kernel run --model {root} --sub-model {sub} {asked}"
        for key, (root, sub) in choices.items()
        if env.get(key)
    ]
    if commands:
        return ["Your key is set; the same with a model that writes its own code (this costs money):", *commands]
    return ["With OPENAI_API_KEY or ANTHROPIC_API_KEY set, `rlm-kernel run` asks a model that writes its own code."]
