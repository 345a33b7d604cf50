"""Sub-calls as the kernel sees them: requests by number, futures, and errors with a type."""

import itertools
import json
import os
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from .wire import LIMITS, Channel, ErrorCode

Reply = dict[str, Any]
"""What the host sends for a call that was answered: its `text`, and perhaps a `note` for who asked."""


class LLMQueryError(Exception):
    """A sub-call has no answer."""


class BudgetExceeded(LLMQueryError):
    """A limit of the run is spent."""


class DepthExceeded(LLMQueryError):
    """The call would go deeper than the run allows."""


class ModelUnavailable(LLMQueryError):
    """The model can't be reached or is not allowed."""


for _public in (LLMQueryError, BudgetExceeded, DepthExceeded, ModelUnavailable):
    _public.__module__ = "__main__"  # as the model's code knows them

_ERRORS: dict[str, type[LLMQueryError]] = {
    ErrorCode.BUDGET_EXCEEDED: BudgetExceeded,
    ErrorCode.DEPTH_EXCEEDED: DepthExceeded,
    ErrorCode.MODEL_UNAVAILABLE: ModelUnavailable,
}


class Subcalls:
    """Sends requests and resolves their futures; safe to use from any thread."""

    def __init__(self, send: Callable[[bytes], None], generation: int) -> None:
        self._send = send
        # numbers of an earlier kernel are never used again, so a late answer can't be taken for another's
        self._numbers = itertools.count(generation << 32)
        self._pending: dict[int, Future[Reply]] = {}
        self._pid = os.getpid()

    def encode(self, kind: str, **fields: Any) -> tuple[int, bytes]:
        """Make the message of one request. Raise `TypeError` or `ValueError` for one that can't be sent."""
        if os.getpid() != self._pid:
            raise LLMQueryError("sub-calls work in the kernel's own process only: use threads instead of processes")
        number = next(self._numbers)
        try:
            payload = json.dumps({"kind": kind, "id": number, **fields}, ensure_ascii=False, allow_nan=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"the call can't be sent as UTF-8: {error.reason} at {error.start}") from None
        limit = LIMITS[Channel.SUBCALL].message
        if len(payload) > limit:
            raise ValueError(f"the call has {len(payload):,} bytes, at most {limit:,} can be sent: split it")
        return number, payload

    def post(self, number: int, payload: bytes) -> "Future[Reply]":
        """Send an encoded request."""
        future: Future[Reply] = Future()
        self._pending[number] = future
        future.add_done_callback(lambda _: self._pending.pop(number, None))
        self._send(payload)
        return future

    def resolve(self, payload: bytes) -> None:
        """Take a reply from the host; one that nobody waits for is dropped."""
        reply = json.loads(payload)
        future = self._pending.get(reply["id"])
        if future is None or not future.set_running_or_notify_cancel():
            return
        if (error := reply.get("error")) is None:
            future.set_result(reply)
        else:
            future.set_exception(_ERRORS.get(error["code"], LLMQueryError)(error["message"]))
