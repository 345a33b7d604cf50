"""Everything that happens in a run, as typed events; the recording, the progress display and exports read these.

The schema's version is `SCHEMA_VERSION`. A line of a recording is one `Record` as JSON; `docs/recording.md` describes
it for readers. A new event, or a field with a default, keeps the version; any other change raises it.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from rlm_kernel.types import JSON, Message, Usage

SCHEMA_VERSION = 1

CellStatus = Literal["ok", "error", "timed_out", "interrupted", "kernel_died"]
InterruptReason = Literal["timed_out", "stopped", "budget"]
InterruptStep = Literal["sigint", "cancel", "restart", "replace"]
RunStatus = Literal["answered", "partial", "failed", "cancelled"]
AnswerSource = Literal["FINAL", "FINAL_VAR", "answer", "reply", "last_request"]


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=lambda name: name, omit_defaults=False):
    """Something that happened; the JSON field `type` is the class's name."""


class RunStarted(Event, frozen=True, kw_only=True):
    """The first event of every run. `settings` holds the resolved configuration, without secrets."""

    run: str
    question: str
    model: str
    sub_model: str
    package_version: str
    python_version: str
    parent_run: str | None = None
    depth: int = 0
    settings: dict[str, JSON] = {}


class ContextStored(Event, frozen=True, kw_only=True):
    """The context is in the content store. `digest` is SHA-256 of its bytes, `size` is in bytes."""

    digest: str
    kind: Literal["str", "files", "json"]
    size: int
    source: str
    index_digest: str | None = None


class SandboxStarted(Event, frozen=True, kw_only=True):
    """A container runs and its limits were read back from inside (`seen`). Another one takes the place of one lost.

    `runtime` is ours, `oci_runtime` the engine's; `image` is a tag, `image_id` the digest it stood for.
    """

    runtime: str
    oci_runtime: str
    engine: str
    container: str
    image: str
    image_id: str
    carrier: Literal["socket", "attach"]
    uid: int
    seen: dict[str, JSON]


class KernelReady(Event, frozen=True, kw_only=True):
    """The kernel answers and `context` is bound; generation 1 is the first, each restart adds one.

    `context_type` is the guest's word for the variable's type, `context_length` its `len()`. `emptied`: the files that
    cells had written were removed, as the kernel needed their room.
    """

    generation: int
    context_type: str
    context_length: int
    emptied: bool = False


class KernelLost(Event, frozen=True, kw_only=True):
    """The kernel of `generation` died or has to be killed, and its variables go with it; `lost` names them.

    A `KernelReady` of the next generation follows once there is a new kernel.
    """

    generation: int
    reason: str
    lost: list[str] = []


class KernelRebuilt(Event, frozen=True, kw_only=True):
    """The finished cells were run again in the kernel of `generation`, with their recorded answers and unrecorded.

    `cells` ended as before, `names` are the variables that are back, and `failed` says why the next cell did not.
    """

    generation: int
    cells: list[int]
    names: list[str]
    seconds: float
    failed: str | None = None


class TurnStarted(Event, frozen=True, kw_only=True):
    """The controller begins a turn, counted from 1."""

    turn: int


class ModelRequested(Event, frozen=True, kw_only=True):
    """A request to the root model. `messages` are those added since the conversation's last request.

    The conversation is append-only: the whole request is every earlier message up to `history`, then these.
    """

    call: str
    model: str
    history: int
    messages: list[Message]
    max_output_tokens: int | None = None


class ModelReplied(Event, frozen=True, kw_only=True):
    """The root model's reply. `seconds` counts from the request, waits and retries included."""

    call: str
    text: str
    finish_reason: str
    usage: Usage
    seconds: float
    attempts: int
    served_by: str
    reply_id: str | None = None


class ModelFailed(Event, frozen=True, kw_only=True):
    """The root model gave no reply. `usage` is what the last attempt is known to have cost."""

    call: str
    error: str
    message: str
    seconds: float
    usage: Usage | None = None


class ModelRetried(Event, frozen=True, kw_only=True):
    """An attempt of a root call or a sub-call failed and another one follows after `wait` seconds.

    `usage` is what the attempt is known to have cost; the final reply's usage does not include it.
    """

    call: str
    attempt: int
    error: str
    message: str
    wait: float
    usage: Usage | None = None


class CellStarted(Event, frozen=True, kw_only=True):
    """A cell is about to run; cells are counted from 1."""

    cell: int
    turn: int
    code: str


class CellOutput(Event, frozen=True, kw_only=True):
    """One output of a cell, shaped as in nbformat 4.5. `late`: it came after the cell had ended.

    `display_id` names a display that a later output may change; with `update` this output takes the place of the
    displays of that name, as in a notebook.
    """

    cell: int
    output: dict[str, JSON]
    late: bool = False
    display_id: str | None = None
    update: bool = False


class CellOutputCleared(Event, frozen=True, kw_only=True):
    """A cell took back its outputs so far, as progress bars do; with `wait`, when the next output comes."""

    cell: int
    wait: bool = False


class CellInterrupted(Event, frozen=True, kw_only=True):
    """A step is taken to end a cell, `seconds` after its start; a step follows when the one before it was no use.

    "sigint" is the signal, "cancel" comes from another thread of the kernel's, "restart" ends all processes and starts
    a new kernel, and "replace", which comes after the cell's end, starts a new container.
    """

    cell: int
    step: InterruptStep
    reason: InterruptReason
    seconds: float


class CellFinished(Event, frozen=True, kw_only=True):
    """A cell's end. `cut` is about how many bytes of output were left out; `final` is what it gave as an answer."""

    cell: int
    status: CellStatus
    seconds: float
    execution_count: int | None = None
    ename: str | None = None
    evalue: str | None = None
    cut: int = 0
    final: JSON = None
    final_source: Literal["FINAL", "FINAL_VAR", "answer"] | None = None


class SubcallRequested(Event, frozen=True, kw_only=True):
    """A cell asked a sub-model and the host took the call. `asked` is the model the cell named, None if it did not."""

    call: str
    cell: int
    model: str
    prompt: str
    asked: str | None = None
    max_output_tokens: int | None = None


class SubcallReplied(Event, frozen=True, kw_only=True):
    """A sub-call's answer; the fields are those of `ModelReplied`."""

    call: str
    text: str
    finish_reason: str
    usage: Usage
    seconds: float
    attempts: int
    served_by: str
    reply_id: str | None = None


class SubcallFailed(Event, frozen=True, kw_only=True):
    """A sub-call without an answer: `code` and `told` are what the guest was told, `usage` as in `ModelFailed`."""

    call: str
    code: str
    error: str
    message: str
    seconds: float
    usage: Usage | None = None
    told: str = ""


class SubcallRefused(Event, frozen=True, kw_only=True):
    """A sub-call that the host did not take, for example as no cell ran (`cell` None).

    `prompt` is its beginning, `prompt_length` its length in characters. After the first 100 between two cells' ends
    only a `Notice` counts them.
    """

    call: str
    cell: int | None
    reason: str
    asked: str | None
    prompt: str
    prompt_length: int


class AnswerGiven(Event, frozen=True, kw_only=True):
    """The run has its answer."""

    answer: str
    source: AnswerSource


class Notice(Event, frozen=True, kw_only=True):
    """Something a person should know that is no failure."""

    message: str


class RunFinished(Event, frozen=True, kw_only=True):
    """The last event of every run that was not killed and whose recording could be written to its end.

    `usage` is per model name, over all attempts. Requests and cells without an end of their own ended with the run.
    """

    status: RunStatus
    answer: str | None
    seconds: float
    turns: int
    usage: dict[str, Usage]
    error: str | None = None
    message: str | None = None


AnyEvent = (
    RunStarted
    | ContextStored
    | SandboxStarted
    | KernelReady
    | KernelLost
    | KernelRebuilt
    | TurnStarted
    | ModelRequested
    | ModelReplied
    | ModelFailed
    | ModelRetried
    | CellStarted
    | CellOutput
    | CellOutputCleared
    | CellInterrupted
    | CellFinished
    | SubcallRequested
    | SubcallReplied
    | SubcallFailed
    | SubcallRefused
    | AnswerGiven
    | Notice
    | RunFinished
)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a recording: the schema's version, a number that counts from 0, UTC in seconds, the event."""

    v: int
    seq: int
    at: float
    event: AnyEvent


class EventSink(Protocol):
    """Where events go."""

    def emit(self, event: AnyEvent) -> None:
        """Take `event`; it is durable against a kill of this process when this returns."""
