"""Who hears of a run's events, and in which order."""

from __future__ import annotations

from dataclasses import dataclass

from rlm_kernel.assembly.hooks import Hooks
from rlm_kernel.config import Settings
from rlm_kernel.events import TreeSink
from rlm_kernel.models.model import OnText
from rlm_kernel.recording import Following, RecordingLog, Redact, Redaction, Tee, hooks_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """What is told of every event once it is recorded: the program's own sink, and readers of the recording.

    `on_text` is given the root model's replies as they come. `hooks` are called by the run. `redact` is not told but
    asked: what it takes out of a text is not written.
    """

    on_event: TreeSink | None = None
    following: Following | None = None
    on_text: OnText | None = None
    hooks: Hooks | None = None
    redact: tuple[Redact, ...] = ()

    def redaction(self, settings: Settings) -> Redaction | None:
        """Return what keeps texts out of a recording; None where nothing does."""
        named = hooks_of(settings.redact) if settings.redact is not None else ()
        return Redaction((*self.redact, *named)) if self.redact or named else None

    def behind(self, log: RecordingLog, *readers: Following) -> TreeSink:
        """Return the sink that records each event and then tells the listeners, and those that read for the run.

        Who reads is given what was written; `on_event` the event as it was.
        """
        following = [*readers, *([self.following] if self.following is not None else [])]
        for each in following:
            each.begin(log.path)
        heard: list[TreeSink] = [*following, *([self.on_event] if self.on_event is not None else [])]
        return Tee(log, *heard) if heard else log
