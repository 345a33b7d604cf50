"""Recorded models and tools: what stands before the real ones while a cell runs again."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Container, Iterable
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, Protocol

from rlm_kernel.bridge import Models, Offer, Refusal, SubcallMessage, ToolMessage, context_digest
from rlm_kernel.budget import Budget
from rlm_kernel.events import InterruptReason
from rlm_kernel.models.model import Completion, Model, ModelRequest
from rlm_kernel.tools import ToolCallFailed, Tools
from rlm_kernel.types import Usage


def digest(prompt: str) -> bytes:
    """Return what stands for a prompt."""
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest()


class CallKey(NamedTuple):
    """What tells one sub-call from another: `asked` is the model or the tool that the cell named, the rest digests."""

    kind: str
    asked: str | None
    prompt: bytes
    context: str | None = None
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A call of a cell that runs again: `text` is its prompt or its arguments, `call` its name now if it has one.

    `behind` makes the call for real; None where nothing is there to make it.
    """

    key: CallKey
    text: str
    call: str = ""
    behind: Callable[[], Awaitable[Completion]] | None = None


class Answers(Protocol):
    """Where the answers to a cell's calls are."""

    @property
    def asked(self) -> Iterable[CallKey]:
        """The calls there are answers for."""

    def refused(self, kind: Literal["llm", "tool"], asked: str | None, text: str) -> Refusal | None:
        """Return why a call was not taken; None for one that was. `kind` is "llm" for a session below too."""

    async def answer(self, asking: Asking) -> Completion:
        """Return the answer to a call, a tool's result as the text of one. Raise `KnownFailure` where it had none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayedCell:
    """How a recorded cell runs again: its calls' `answers`, and the time in seconds after which it ends for `reason`.

    `clock` is the time in UTC as it began. `whole`: it ended when it was recorded.
    """

    answers: Answers
    seconds: float
    reason: InterruptReason = "timed_out"
    clock: float | None = None
    whole: bool = True


class Played(Protocol):
    """The recorded cells of a session."""

    def cell(self, number: int) -> PlayedCell | None:
        """Return how the cell runs again; None for one that never ran."""


def offered(answers: Answers, usual: Offer) -> Offer:
    """Return what a cell may call, answered by `answers`; `usual` stands behind that."""

    def refused(message: SubcallMessage) -> Refusal | None:
        if isinstance(message, ToolMessage):
            return answers.refused("tool", message.tool, message.arguments)
        return answers.refused("llm", message.model, message.prompt)

    named: dict[str, set[str | None]] = {"llm": set(usual.models), "rlm": set(usual.children), "tool": set()}
    for key in answers.asked:
        named[key.kind].add(key.asked)
    return replace(
        usual,
        models={asked: _model(answers, "llm", asked, usual.models) for asked in named["llm"]},
        children={asked: _model(answers, "rlm", asked, usual.children) for asked in named["rlm"]},
        tools=_RecordedTools(answers, usual.tools, {asked for asked in named["tool"] if asked is not None}),
        budget=Budget(),  # an answer that is there costs nothing; what is asked for real asks the budget itself
        known=True,
        refused=refused,
    )


def _model(answers: Answers, kind: str, asked: str | None, models: Models) -> Model:
    return _RecordedModel(answers, kind, asked, models.get(asked))


class _RecordedModel:
    """Gives the answers of earlier calls, which reach no provider and cost nothing."""

    def __init__(self, answers: Answers, kind: str, asked: str | None, behind: Model | None) -> None:
        self.name = behind.name if behind is not None else asked or "recorded"
        self._answers = answers
        self._kind = kind
        self._asked = asked
        self._behind = behind

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer as before. Raise `KnownFailure` where the call had failed."""
        (message,) = request.messages
        images = tuple(hashlib.sha256(image.data).hexdigest() for image in message.images)
        key = CallKey(self._kind, self._asked, digest(message.content), context_digest(request.context), images)
        behind = self._behind
        return await self._answers.answer(
            Asking(
                key=key,
                text=message.content,
                call=request.call,
                behind=None if behind is None else lambda: behind.complete(request),
            )
        )

    async def aclose(self) -> None:
        """Close nothing."""


@dataclass(frozen=True, slots=True)
class _RecordedTools:
    """Gives the results of earlier calls; nothing runs on the host for them."""

    answers: Answers
    behind: Tools
    recorded: Container[str] = field(default_factory=set)

    @property
    def names(self) -> Container[str]:
        """What there is."""
        return self.behind.names

    def refusal(self, name: str) -> str | None:
        """Refuse what is no tool; whether a call was taken is for `call` to say."""
        return None if name in self.recorded or name in self.behind.names else f"there is no tool {name[:100]!r}"

    async def call(self, name: str, arguments: str) -> str:
        """Give the result, or fail, as before."""

        async def call() -> Completion:
            if (reason := self.behind.refusal(name)) is not None:
                raise ToolCallFailed(reason, "ToolRefused", reason)
            text = await self.behind.call(name, arguments)
            return Completion(text=text, finish_reason="stop", usage=Usage(), served_by=name)

        asking = Asking(key=CallKey("tool", name, digest(arguments)), text=arguments, behind=call)
        return (await self.answers.answer(asking)).text
