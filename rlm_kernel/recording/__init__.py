"""The recording: every event of a run, one line of JSON each, written before it is acted on."""

from rlm_kernel.recording.bundle.unpack import opened_run
from rlm_kernel.recording.find import find_run, run_folders
from rlm_kernel.recording.folder import EVENTS_FILE, events_file, new_run_id, run_folder
from rlm_kernel.recording.following import Following
from rlm_kernel.recording.heads import HEADS, Head, kept_head
from rlm_kernel.recording.index import Recording
from rlm_kernel.recording.liveness import is_written
from rlm_kernel.recording.log import LINE_LIMIT, AtNode, RecordingLog, Tee
from rlm_kernel.recording.reader import read_events
from rlm_kernel.recording.redaction import REDACTED, Redact, Redaction, fits
from rlm_kernel.recording.shapes import hooks_of
from rlm_kernel.recording.summary import RunSummary, summaries, summarise
from rlm_kernel.recording.used import Used, used_by
from rlm_kernel.recording.verify import Verified, verify

__all__ = [
    "EVENTS_FILE",
    "HEADS",
    "LINE_LIMIT",
    "REDACTED",
    "AtNode",
    "Following",
    "Head",
    "Recording",
    "RecordingLog",
    "Redact",
    "Redaction",
    "RunSummary",
    "Tee",
    "Used",
    "Verified",
    "events_file",
    "find_run",
    "fits",
    "hooks_of",
    "is_written",
    "kept_head",
    "new_run_id",
    "opened_run",
    "read_events",
    "run_folder",
    "run_folders",
    "summaries",
    "summarise",
    "used_by",
    "verify",
]
