"""Everything that can fail, as one family; each message names the thing and the way out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlm_kernel.types import Usage


class RlmKernelError(Exception):
    """The root of every error that this package raises on purpose."""


class ConfigError(RlmKernelError):
    """What was asked for can't be: an option, a model's name, a missing key."""


class EmptyQuestion(ConfigError):
    """The question has no text."""


class UnknownModel(ConfigError):
    """A model's name has a provider that does not exist, or no model behind the provider."""


class MissingKey(ConfigError):
    """A provider needs an API key and the environment has none."""


class MissingExtra(ConfigError):
    """Something optional is asked for and is not installed."""


class ContextError(RlmKernelError):
    """The context can't be used."""


class ContextNotFound(ContextError):
    """There is nothing at the context's path."""


class ContextUnreadable(ContextError):
    """The context is there and can't be read."""


class ContextBinary(ContextError):
    """The context, or files of its folder, hold binary data."""


class ContextEncoding(ContextError):
    """The context is not valid UTF-8."""


class ContextMissing(ContextError):
    """A recorded context is not in the content store any more."""


class ContextTooLarge(ContextError):
    """The context does not fit into the session's memory."""


class StorageError(RlmKernelError):
    """The state folder can't be used."""


class StorageFull(StorageError):
    """The disk has no room for the recording or the context."""


class RecordingError(RlmKernelError):
    """The recording can't be written or read."""


class RecordingDamaged(RecordingError):
    """A line of the recording, other than a torn last one, is not a record."""


class RecordingTooNew(RecordingError):
    """The recording was written by a later version of this package."""


class RecordingEnded(RecordingError):
    """The recorded run was killed or cancelled here, so there is no more of it to replay."""


class NotResumable(RecordingError):
    """The recorded run has nothing to go on with: it goes on by itself, or has ended."""


class StateDiverged(RlmKernelError):
    """A recorded cell did not run again as it had, so a run that goes on from it would have another state."""


class ReplayMismatch(RlmKernelError):
    """A replay asked for what the recording does not hold."""


class RecordingAltered(RecordingError):
    """The recording is not the one whose head it was held against, or its context is not what its name says."""


class RecordingUnproven(RecordingError):
    """The recording has no hash chain, so nothing shows whether it was changed."""


class BundleInvalid(RecordingError):
    """The file is not a bundle as `runs pack` writes it, or larger than allowed."""


class NodeFailed(RlmKernelError):
    """A node of a job failed; its cause's status is given instead. `results` are those of the nodes before `node`."""

    def __init__(self, node: str, results: Sequence[Any], cause: RlmKernelError) -> None:
        super().__init__(f"the node {node!r} failed: {cause}")
        self.node = node
        self.results = results
        self.cause = cause


class SandboxError(RlmKernelError):
    """The container could not be had or was lost."""


class EngineUnavailable(SandboxError):
    """No container engine answers."""


class EngineTimeout(SandboxError):
    """The engine did not answer in time."""


class ImageMissing(SandboxError):
    """The sandbox image has not been built."""


class SandboxRefused(SandboxError):
    """The engine can't give the isolation or a limit that was asked for, so nothing was run."""


class SandboxLost(SandboxError):
    """The container ended, or its stream did, while it was needed."""


class GuestProtocolError(SandboxError):
    """The container sent what the protocol forbids; its session was closed."""


class KernelFailed(SandboxError):
    """The kernel in the container could not be started."""


class ModelError(RlmKernelError):
    """A model gave no usable reply. `usage` is what that cost all the same, where the provider said so.

    `may_be_charged`: the provider may have worked on it, and nobody says how much.
    """

    usage: Usage | None = None
    may_be_charged: bool = False


class ModelAuthError(ModelError):
    """The provider refused the key or the permission."""


class ModelRejected(ModelError):
    """The provider refused the request itself (4xx); the same request will fail again.

    `empty_for`: it was a reply without a word, which ended for this reason.
    """

    empty_for: str | None = None


class ToolsRefused(ModelRejected):
    """The provider or the model can't call tools."""


class PromptTooLong(ModelRejected):
    """The conversation is longer than the model can read."""


class ImagesNotTaken(ModelRejected):
    """The model takes no images."""


class ScriptExhausted(ModelError):
    """A scripted model was asked for more turns than its file has."""


class RetryableModelError(ModelError):
    """A failure that may pass; `retry_after` is the provider's own wish, in seconds."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RateLimited(RetryableModelError):
    """The provider said 429."""


class ModelUnavailable(RetryableModelError):
    """The provider is overloaded or failing (5xx), or can't be reached."""


class ModelUnreachable(ModelUnavailable):
    """No connection to the provider could be made, or it broke before the reply was there.

    `given_up`: none was tried, as those before it failed; repeating the call at once is vain.
    """

    def __init__(self, message: str, *, given_up: bool = False) -> None:
        super().__init__(message)
        self.given_up = given_up


class ModelTimeout(RetryableModelError):
    """The provider did not reply in time."""

    may_be_charged = True


class ModelReplyInvalid(RetryableModelError):
    """The reply is not what the provider's interface promises: invalid JSON, no choice, no text."""

    may_be_charged = True


class NoAnswer(RlmKernelError):
    """The run ended without an answer."""


class AnswerInvalid(NoAnswer):
    """The answer does not fit the type or the schema that was asked for, and was no better the second time."""


class SessionError(RlmKernelError):
    """A session can't take a question: it is busy with another one, has ended, or has lost its sandbox."""


class RunCancelled(RlmKernelError):
    """The run was cancelled by its own program, so it has no result."""


class BudgetExceeded(RlmKernelError):
    """A limit of the run is spent.

    `limit` is the setting's name, `reason` the message without the way out. `too_large`: it is not spent, and smaller
    calls may fit.
    """

    def __init__(self, reason: str, *, limit: str = "", way_out: str = "", too_large: bool = False) -> None:
        super().__init__(f"{reason} {way_out}".strip())
        self.reason = reason
        self.limit = limit
        self.too_large = too_large


class DepthExceeded(RlmKernelError):
    """A call would go deeper than the run allows."""
