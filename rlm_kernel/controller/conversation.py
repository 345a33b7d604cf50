"""A conversation with a model: its messages, and its requests and replies as they are recorded."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from rlm_kernel.budget import guess_message
from rlm_kernel.controller.reply import without_thinking
from rlm_kernel.controller.tools import sendable
from rlm_kernel.errors import ModelRejected, RlmKernelError
from rlm_kernel.events import EventSink, ModelFailed, ModelReplied, ModelRequested, ModelRetried
from rlm_kernel.models.model import Completion, Model, ModelRequest, OnText
from rlm_kernel.text import encodable
from rlm_kernel.types import JSON, Message, Tool, Usage

_UNANSWERED = "This call was not run: the work was stopped."
_EMPTY = "(empty reply)"
_NO_REPLY = "(no reply)"


class Conversation:
    """The messages, which are only ever added to, and the calls that are made with them.

    It may go on after any failure or cancel: what a request left open is closed before the next thing is said.
    """

    def __init__(self, model: Model, sink: EventSink, *, max_reply_tokens: int | None = None) -> None:
        self.messages: list[Message] = []
        self.tools: tuple[Tool, ...] = ()
        self.extra: Mapping[str, JSON] = {}
        self.on_text: OnText | None = None
        self._model = model
        self._sink = sink
        self._max_reply_tokens = max_reply_tokens
        self._sent: list[Message] = []
        self._calls = 0
        self._known_messages = self._known_tokens = 0

    @property
    def fresh(self) -> bool:
        """Whether the model has not said anything yet."""
        return all(message.role != "assistant" for message in self.messages)

    @property
    def tokens(self) -> int:
        """About how many tokens the next request has: what the provider counted last, and an estimate of the rest."""
        return self._known_tokens + sum(map(guess_message, self.messages[self._known_messages :]))

    def start(self, messages: Sequence[Message]) -> None:
        """Begin, or begin anew, with `messages`."""
        self.messages = list(messages)
        self._known_messages = self._known_tokens = 0

    def say(self, text: str) -> None:
        """Say something to the model; successive sayings are one message, as some providers want turns to alternate."""
        self._close_calls()
        last = self.messages[-1] if self.messages else None
        if last is not None and len(self.messages) > len(self._sent) and last.role == "user":
            self.messages[-1] = replace_content(last, f"{last.content}\n\n{text}")
            return
        if last is not None and len(self.messages) <= len(self._sent) and last.role != "assistant":
            self.messages.append(Message("assistant", _NO_REPLY))
        self.messages.append(Message("user", text))

    def answer_call(self, call: str, text: str) -> None:
        """Say what came of a call of a tool."""
        self.messages.append(Message("tool", text, tool_call_id=call))

    async def ask(self) -> Completion:
        """Send the conversation and append the reply, without thinking in its text; both are recorded first."""
        self._close_calls()
        self._calls += 1
        call = f"m{self._calls}"
        history = _common(self._sent, self.messages)
        self._sink.emit(
            ModelRequested(
                call=call,
                model=self._model.name,
                history=history,
                messages=self.messages[history:],
                max_output_tokens=self._max_reply_tokens,
                tools=list(self.tools),
                extra=dict(self.extra),
            )
        )
        self._sent = list(self.messages)
        completion = await self._complete(call)
        completion = replace(completion, text=encodable(without_thinking(completion.text)))
        calls = sendable(completion.tool_calls)
        # Providers refuse an assistant message that says nothing.
        text = completion.text.strip() or ("" if calls else _EMPTY)
        self.messages.append(Message("assistant", text, tool_calls=calls, reasoning=completion.reasoning))
        counted = completion.counted or completion.usage
        if counted.input_tokens:
            self._known_messages = len(self.messages)
            self._known_tokens = counted.total_tokens
        return completion

    def _close_calls(self) -> None:
        """Answer the calls that were left open when the work was stopped, as providers demand."""
        answered = set()
        for message in reversed(self.messages):
            if message.role == "tool":
                answered.add(message.tool_call_id)
                continue
            for call in message.tool_calls:
                if call.id not in answered:
                    self.answer_call(call.id, _UNANSWERED)
            return

    async def _complete(self, call: str) -> Completion:
        request = ModelRequest(
            messages=tuple(self.messages),
            max_output_tokens=self._max_reply_tokens,
            tools=self.tools,
            extra=self.extra,
            on_retry=lambda *failed: self._sink.emit(ModelRetried.of(call, *failed)),
            on_text=self.on_text,
        )
        start = time.perf_counter()
        try:
            completion = await self._reply(request)
        except RlmKernelError as error:
            seconds = time.perf_counter() - start
            usage = getattr(error, "usage", None)
            name = type(error).__name__
            self._sink.emit(ModelFailed(call=call, error=name, message=str(error), seconds=seconds, usage=usage))
            raise
        self._sink.emit(
            ModelReplied(
                call=call,
                text=completion.text,
                finish_reason=completion.finish_reason,
                usage=completion.usage,
                seconds=time.perf_counter() - start,
                attempts=completion.attempts,
                served_by=completion.served_by,
                reply_id=completion.reply_id,
                tool_calls=list(completion.tool_calls),
                reasoning=completion.reasoning,
                cached=completion.cached,
                counted=completion.counted,
            )
        )
        return completion

    async def _reply(self, request: ModelRequest) -> Completion:
        """Return the model's reply, also one without a word, which is an error to others than a conversation."""
        try:
            return await self._model.complete(request)
        except ModelRejected as error:
            if error.empty_for is None:
                raise
            usage = error.usage or Usage(calls=1)
            return Completion(text="", finish_reason=error.empty_for, usage=usage, served_by=self._model.name)


def replace_content(message: Message, content: str) -> Message:
    """Return `message` with another text."""
    return Message(message.role, content, images=message.images)


def _common(before: Sequence[Message], after: Sequence[Message]) -> int:
    """Return how many messages both begin with."""
    same = 0
    for one, other in zip(before, after, strict=False):
        if one is not other and one != other:
            break
        same += 1
    return same
