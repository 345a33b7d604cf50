"""What the guest is told of a failure: its kind, in words of our own, and nothing that an error's text may name."""

from __future__ import annotations

import asyncio

from rlm_kernel.errors import (
    BudgetExceeded,
    DepthExceeded,
    ImagesNotTaken,
    ModelRejected,
    RetryableModelError,
    RlmKernelError,
)
from rlm_kernel.guest.wire import ErrorCode


class KnownFailure(Exception):
    """A sub-call failed before, and the guest is to be told the same again: `code` and `told`.

    `error` and `message` are what was recorded of it then, where that is known.
    """

    def __init__(self, code: str, told: str, *, error: str = "KnownFailure", message: str | None = None) -> None:
        super().__init__(told if message is None else message)
        self.code = code if code in set(ErrorCode) else ErrorCode.FAILED
        self.told = told
        self.error = error


_TOLD: tuple[tuple[type[BaseException], ErrorCode, str], ...] = (
    (BudgetExceeded, ErrorCode.BUDGET_EXCEEDED, "the run's budget is spent, no more calls are made"),
    (DepthExceeded, ErrorCode.DEPTH_EXCEEDED, "the run's depth limit is reached"),
    (RetryableModelError, ErrorCode.MODEL_UNAVAILABLE, "the model is unavailable after all retries"),
    (ImagesNotTaken, ErrorCode.FAILED, "the model takes no images"),
    (ModelRejected, ErrorCode.FAILED, "the provider rejected the request; a shorter prompt may help"),
    (asyncio.CancelledError, ErrorCode.FAILED, "the sub-call was cancelled"),
    (BaseException, ErrorCode.FAILED, "the sub-call failed"),
)
"""The first class that fits counts."""


def told(error: BaseException) -> tuple[ErrorCode, str]:
    """Return the code and the words for `error`."""
    if isinstance(error, KnownFailure):
        return ErrorCode(error.code), error.told
    if isinstance(error, BudgetExceeded) and error.too_large:
        return ErrorCode.BUDGET_EXCEEDED, f"the call is too large for what is left of {error.limit}: make it smaller"
    code, text = next((code, text) for kind, code, text in _TOLD if isinstance(error, kind))
    return code, f"{text} ({type(error).__name__})" if isinstance(error, RlmKernelError) else text
