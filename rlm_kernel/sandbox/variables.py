"""Which names a session's own variables may have: those of contexts, and of host tools."""

from __future__ import annotations

import builtins
import keyword
import unicodedata
from collections.abc import Iterable

from rlm_kernel.errors import ConfigError

LONGEST_NAME = 64
GUEST_NAMES = frozenset(
    [
        "context",
        "answer",
        "llm_query",
        "llm_query_batched",
        "allm_query",
        "allm_query_batched",
        "rlm_query",
        "rlm_query_batched",
        "arlm_query",
        "arlm_query_batched",
        "chunk",
        "FINAL",
        "FINAL_VAR",
        "SHOW_VARS",
        "LLMQueryError",
        "BudgetExceeded",
        "DepthExceeded",
        "ModelUnavailable",
        "ToolError",
    ]
)
"""What a kernel has of its own."""
_SHELL_NAMES = frozenset(["In", "Out", "exit", "quit", "open", "display", "get_ipython"])


def check_names(names: Iterable[str], what: str) -> None:
    """Raise `ConfigError` for a name of `what` that can't be a variable's, or that stands for something else."""
    for name in names:
        if (why := _fault(name)) is not None:
            raise ConfigError(f"{str(name)[:LONGEST_NAME]!r} can't be the name of a {what}: {why}")


def _fault(name: object) -> str | None:
    if not isinstance(name, str):
        return "it is no text"
    if len(name) > LONGEST_NAME:
        return f"it has over {LONGEST_NAME} characters"
    if not name.isidentifier() or keyword.iskeyword(name) or unicodedata.normalize("NFKC", name) != name:
        return "it is no name in Python, as letters, digits and _ make one"
    if name.startswith("_"):
        return "names with _ in front are the kernel's own"
    if name in GUEST_NAMES or name in _SHELL_NAMES or hasattr(builtins, name):
        return "the kernel has something of that name already"
    return None
