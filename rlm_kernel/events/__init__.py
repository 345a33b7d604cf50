"""Everything that happens in a run, as typed events; the recording, the progress display and exports read these.

The schema's version is `SCHEMA_VERSION`. A line of a recording is one `Record` as JSON; `docs/recording.md` describes
it for readers. A new event, or a field with a default, keeps the version; any other change raises it.
"""

from rlm_kernel.events.base import Event
from rlm_kernel.events.budget import BudgetSpent, BudgetWarning
from rlm_kernel.events.calls import (
    ImageSent,
    ModelFailed,
    ModelReplied,
    ModelRequested,
    ModelRetried,
    SubcallFailed,
    SubcallRefused,
    SubcallReplied,
    SubcallRequested,
    TurnStarted,
)
from rlm_kernel.events.cells import (
    CellFinished,
    CellInterrupted,
    CellOutput,
    CellOutputCleared,
    CellStarted,
    CellStatus,
    ContextChunked,
    InterruptReason,
    InterruptStep,
)
from rlm_kernel.events.conversation import HistoryCompacted, ProfileChosen
from rlm_kernel.events.questions import AnswerRejected, QuestionAsked, QuestionFailed
from rlm_kernel.events.record import SCHEMA_VERSION, AnyEvent, EventSink, Record, TreeSink
from rlm_kernel.events.run import (
    AnswerGiven,
    AnswerSource,
    ContextStored,
    Notice,
    RunFinished,
    RunOrigin,
    RunStarted,
    RunStatus,
    WentLive,
)
from rlm_kernel.events.sandbox import KernelLost, KernelReady, KernelRebuilt, SandboxStarted
from rlm_kernel.events.tools import ToolFailed, ToolRefused, ToolReplied, ToolRequested

__all__ = [
    "SCHEMA_VERSION",
    "AnswerGiven",
    "AnswerRejected",
    "AnswerSource",
    "AnyEvent",
    "BudgetSpent",
    "BudgetWarning",
    "CellFinished",
    "CellInterrupted",
    "CellOutput",
    "CellOutputCleared",
    "CellStarted",
    "CellStatus",
    "ContextChunked",
    "ContextStored",
    "Event",
    "EventSink",
    "HistoryCompacted",
    "ImageSent",
    "InterruptReason",
    "InterruptStep",
    "KernelLost",
    "KernelReady",
    "KernelRebuilt",
    "ModelFailed",
    "ModelReplied",
    "ModelRequested",
    "ModelRetried",
    "Notice",
    "ProfileChosen",
    "QuestionAsked",
    "QuestionFailed",
    "Record",
    "RunFinished",
    "RunOrigin",
    "RunStarted",
    "RunStatus",
    "SandboxStarted",
    "SubcallFailed",
    "SubcallRefused",
    "SubcallReplied",
    "SubcallRequested",
    "ToolFailed",
    "ToolRefused",
    "ToolReplied",
    "ToolRequested",
    "TreeSink",
    "TurnStarted",
    "WentLive",
]
