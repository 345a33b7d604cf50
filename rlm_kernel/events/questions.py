"""Events of the questions that a run is asked: one, or as many as a session has."""

from __future__ import annotations

from rlm_kernel.events.base import Event


class QuestionAsked(Event, frozen=True, kw_only=True):
    """A question is put to the model; a session may have many, counted from 1."""

    ask: int
    question: str


class QuestionFailed(Event, frozen=True, kw_only=True):
    """A question ended without an answer; the session may go on. `error` is "CancelledError" where it was cancelled."""

    ask: int
    error: str
    message: str
