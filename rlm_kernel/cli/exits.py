"""Exit statuses: each kind of failure has its own, in one table."""

from __future__ import annotations

from rlm_kernel import errors
from rlm_kernel.errors import RlmKernelError

UNEXPECTED = 1
USAGE = 2
PARTIAL = 41
DEMO_WRONG = 50
AUDIT_FAILED = 51
NOT_READY = 52
NOT_SWEPT = 53
DIFFERENT = 54
HUNG_UP = 129
INTERRUPTED = 130
BROKEN_PIPE = 141
TERMINATED = 143

BY_ERROR: dict[type[RlmKernelError], int] = {
    errors.ConfigError: USAGE,
    errors.EmptyQuestion: 3,
    errors.UnknownModel: 4,
    errors.MissingKey: 5,
    errors.MissingExtra: 6,
    errors.StorageError: 7,
    errors.ContextError: 10,
    errors.ContextNotFound: 11,
    errors.ContextUnreadable: 12,
    errors.ContextBinary: 13,
    errors.ContextEncoding: 14,
    errors.ContextTooLarge: 15,
    errors.StorageFull: 16,
    errors.RecordingError: 17,
    errors.RecordingDamaged: 18,
    errors.RecordingTooNew: 19,
    errors.RecordingAltered: 70,
    errors.RecordingUnproven: 71,
    errors.BundleInvalid: 72,
    errors.SandboxError: 20,
    errors.EngineUnavailable: 21,
    errors.EngineTimeout: 22,
    errors.ImageMissing: 23,
    errors.SandboxRefused: 24,
    errors.SandboxLost: 25,
    errors.GuestProtocolError: 26,
    errors.KernelFailed: 27,
    errors.ModelError: 30,
    errors.ModelAuthError: 31,
    errors.ModelRejected: 32,
    errors.ModelReplyInvalid: 33,
    errors.ScriptExhausted: 34,
    errors.RateLimited: 35,
    errors.ModelUnavailable: 36,
    errors.ModelTimeout: 37,
    errors.ModelUnreachable: 38,
    errors.ImagesNotTaken: 39,
    errors.ToolsRefused: 46,
    errors.PromptTooLong: 47,
    errors.NoAnswer: 40,
    errors.BudgetExceeded: 42,
    errors.DepthExceeded: 43,
    errors.SessionError: 44,
    errors.NodeFailed: 49,
    errors.RunCancelled: 45,
    errors.AnswerInvalid: 48,
    errors.ReplayMismatch: 60,
    errors.RecordingEnded: 61,
    errors.ContextMissing: 62,
    errors.NotResumable: 63,
    errors.StateDiverged: 64,
}

OTHERS: dict[int, str] = {
    0: "There is an answer.",
    UNEXPECTED: "Something that this package did not expect; RLM_KERNEL_DEBUG=1 shows where.",
    PARTIAL: "A limit was reached; the answer is the best one so far.",
    DEMO_WRONG: "The demo's answer is wrong, or its sub-model did not work.",
    AUDIT_FAILED: "The audit found a claim that does not hold; known limits alone are no failure.",
    NOT_READY: "The doctor found what keeps sessions from running.",
    NOT_SWEPT: "Something that killed sessions left could not be removed.",
    DIFFERENT: "Two runs, or a run and its replay, are not the same.",
    HUNG_UP: "Ended by SIGHUP, as when the terminal is closed; everything was removed.",
    INTERRUPTED: "Interrupted with Ctrl-C; everything was removed.",
    BROKEN_PIPE: "Standard output was closed by its reader.",
    TERMINATED: "Ended by SIGTERM; everything was removed.",
}


def status_of(error: RlmKernelError) -> int:
    """Return the exit status for `error`: its own class's, else the nearest base's; a node's is that of its cause."""
    if isinstance(error, errors.NodeFailed):
        return status_of(error.cause)
    return next((BY_ERROR[kind] for kind in type(error).__mro__ if kind in BY_ERROR), UNEXPECTED)


def statuses() -> dict[int, str]:
    """Return every status and what it means, in order."""
    own = {status: (kind.__doc__ or "").partition(".")[0] + "." for kind, status in BY_ERROR.items()}
    return dict(sorted((OTHERS | own).items()))
