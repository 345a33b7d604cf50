"""What the controller needs from below, and what it hands back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from rlm_kernel.budget import Budget
from rlm_kernel.errors import ConfigError
from rlm_kernel.events import AnswerSource
from rlm_kernel.kernel.result import CellResult
from rlm_kernel.types import JSON


class CellRunner(Protocol):
    """Something with a live kernel."""

    async def run_cell(self, code: str, *, turn: int) -> CellResult:
        """Run one cell and return its outcome; a failing cell is a value, a failing machine raises `SandboxError`.

        After an error or a cancel no more cells can be run; who opened the kernel closes it.
        """


class AnswerCheck(Protocol):
    """What an answer has to be: JSON that fits `schema`."""

    @property
    def schema(self) -> JSON:
        """A JSON schema."""

    def fitting(self, answer: str) -> str:
        """Return `answer` as JSON text. Raise `ValueError`, in words for the model, if it does not fit."""

    def stop(self) -> None:
        """End a check that is under way in a thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextSummary:
    """What the model is told of its context before the first cell.

    `length` is the variable's `len()`, counted in `unit`; `preview` is the beginning of the text, a few hundred
    characters; `names` are a folder's first file names. `name` is the variable's, `parts` are several contexts by name.
    `tools` are the host's functions that the session has too, each in words for the model.
    """

    type_name: str
    length: int
    unit: Literal["characters", "files", "items", "contexts", "image"]
    total_chars: int
    preview: str
    names: tuple[str, ...] = ()
    name: str = "context"
    parts: tuple[ContextSummary, ...] = ()
    tools: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerLimits:
    """How far a run may go.

    `max_idle_replies` counts replies in a row that hold neither code nor an answer. `shown_characters` is what a
    turn's cells may show the model together. `cell_seconds` is the session's own limit, named in the system prompt, as
    are `subcall_characters`, which one sub-call can read, and `rlm_query` if cells `may_recurse`. Once `budget` is
    spent the model is asked for its best answer.
    """

    max_turns: int = 30
    max_idle_replies: int = 3
    shown_characters: int = 8_000
    max_reply_tokens: int | None = None
    cell_seconds: float = 600.0
    may_recurse: bool = False
    subcall_characters: int = 500_000
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        for name, least in (("max_turns", 1), ("max_idle_replies", 1), ("shown_characters", 500)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a question ended: `partial` is the best answer so far, as turns or budget ran out; `reason` says what did."""

    answer: str
    status: Literal["answered", "partial"]
    source: AnswerSource
    turns: int
    reason: str | None = None
