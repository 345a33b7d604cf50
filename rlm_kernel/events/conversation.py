"""Events of the conversation with the root model."""

from __future__ import annotations

from rlm_kernel.events.base import Event


class ProfileChosen(Event, frozen=True, kw_only=True):
    """How the root model is led, as its conversation begins.

    `digest` is SHA-256 of the profile's files, `tools` whether it is asked for calls of a tool or for code in fences,
    `window` how many tokens it is taken to read.
    """

    name: str
    source: str
    digest: str
    tools: bool
    window: int | None = None


class HistoryCompacted(Event, frozen=True, kw_only=True):
    """Earlier turns were taken out of the conversation, which had about `tokens`: `removed` messages, `kept` last ones.

    `summary` stands for them, `by_model` if the model wrote it. The next `ModelRequested` holds what is said now.
    """

    tokens: int
    window: int | None
    removed: int
    kept: int
    summary: str
    by_model: bool
