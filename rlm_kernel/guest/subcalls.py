"""Sub-calls as the kernel sees them: requests by number, futures, and errors with a type."""

import itertools
import json
import os
from collections.abc import Callable
from concurrent.futures import Future

from .wire import LIMITS, Channel, ErrorCode


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
        self._pending: dict[int, Future[str]] = {}
        self._pid = os.getpid()

    def submit(self, prompt: str, model: str | None) -> "Future[str]":
        """Send one request. Raise `TypeError` or `ValueError` for one that can't be sent."""
        number, payload = self.encode(prompt, model)
        return self.post(number, payload)

    def encode(self, prompt: str, model: str | None) -> tuple[int, bytes]:
        """Check one request and make its message."""
        if not isinstance(prompt, str):
            raise TypeError(f"a prompt must be a str, not {type(prompt).__name__}")
        if not prompt.strip():
            raise ValueError("the prompt is empty")
        if model is not None and not isinstance(model, str):
            raise TypeError(f"model must be a str or None, not {type(model).__name__}")
        if os.getpid() != self._pid:
            raise LLMQueryError("sub-calls work in the kernel's own process only: use threads instead of processes")
        number = next(self._numbers)
        request = json.dumps({"id": number, "prompt": prompt, "model": model}, ensure_ascii=False)
        try:
            payload = request.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"the prompt can't be sent as UTF-8: {error.reason} at {error.start}") from None
        limit = LIMITS[Channel.SUBCALL].message
        if len(payload) > limit:
            raise ValueError(f"the prompt has {len(payload):,} bytes, at most {limit:,} can be sent: split it")
        return number, payload

    def post(self, number: int, payload: bytes) -> "Future[str]":
        """Send an encoded request."""
        future: Future[str] = Future()
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
            future.set_result(reply["text"])
        else:
            future.set_exception(_ERRORS.get(error["code"], LLMQueryError)(error["message"]))
