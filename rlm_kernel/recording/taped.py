"""What a tape holds: calls, cells and questions as they were recorded."""

from __future__ import annotations

from dataclasses import dataclass

from rlm_kernel.bridge import Refusal
from rlm_kernel.events import InterruptReason
from rlm_kernel.recording.index import Call, Question, RootCall
from rlm_kernel.session import CallKey


@dataclass(slots=True, eq=False)
class TapedCall:
    """A call of a cell: `at` and `ended_at` are when it was made and had its end, in UTC; None without one.

    `answered`: it had an answer or a failure of its own, and did not just end with its cell. `node` is the session that
    answered it, if one did. `redacted`: something was taken out of its text before that was recorded.
    """

    key: CallKey
    call: Call
    at: float
    redacted: bool = False
    answered: bool = False
    ended_at: float | None = None
    node: str | None = None


@dataclass(slots=True)
class TapedCell:
    """A cell's calls in the order of asking, and why calls were refused, by `refusal_key`.

    `seconds` is how long it took, None if it has no end; `interrupted` when and why it was made to end.
    """

    number: int
    at: float
    calls: list[TapedCall]
    refused: dict[CallKey, Refusal]
    refusals: int = 0
    seconds: float | None = None
    status: str | None = None
    interrupted: tuple[float, InterruptReason] | None = None


@dataclass(slots=True)
class TapedQuestion:
    """A question: the requests to its session's root model that had an end, in order.

    `failed` is the error's name where it ended without an answer, `over` whether it has an end on the tape at all.
    `ends_failing`: the last request had no reply. `last` is where the last request or cell begins.
    """

    question: Question
    asked: list[RootCall]
    over: bool
    failed: str | None
    ends_failing: bool
    last: int
