"""Events of the questions that a run is asked: one, or as many as a session has."""

from __future__ import annotations

from rlm_kernel.events.base import Event
from rlm_kernel.types import JSON


class QuestionAsked(Event, frozen=True, kw_only=True):
    """A question is put to the model; a session may have many, counted from 1. Its answer has to fit a `schema`."""

    ask: int
    question: str
    schema: JSON = None


class AnswerRejected(Event, frozen=True, kw_only=True):
    """An answer does not fit the schema: `problem`. The model is told, and once more may give one."""

    ask: int
    answer: str
    problem: str


class QuestionFailed(Event, frozen=True, kw_only=True):
    """A question ended without an answer; the session may go on. `error` is "CancelledError" where it was cancelled."""

    ask: int
    error: str
    message: str
