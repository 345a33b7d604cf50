"""What is no longer as it was recorded, told in the recording of the run that goes on from it."""

from __future__ import annotations

from collections.abc import Iterable

from rlm_kernel.assembly.rerun.recorded import changed
from rlm_kernel.config import Settings
from rlm_kernel.events import AnyEvent, Notice, ProfileChosen, RunStarted, SandboxStarted, TreeSink
from rlm_kernel.recording import Recording
from rlm_kernel.sandbox.stored import Stored


class Noticing:
    """A sink that adds a `Notice` for each thing that is not as recorded, once it is known."""

    def __init__(
        self, sink: TreeSink, recording: Recording, notices: Iterable[str], settings: Settings, stored: Stored
    ) -> None:
        """`notices` are told at the run's beginning."""
        self._sink = sink
        self._recording = recording
        self._notices = notices
        self._settings = settings
        self._stored = stored
        self._seen: set[type[AnyEvent]] = set()

    def emit(self, event: AnyEvent, node: str = "") -> None:
        """Pass `event` on, and say what it tells of changes, where it is the first of its kind of the run itself."""
        self._sink.emit(event, node)
        if node or type(event) in self._seen or not isinstance(event, RunStarted | SandboxStarted | ProfileChosen):
            return
        self._seen.add(type(event))
        for message in self._said(event):
            self._sink.emit(Notice(message=message))

    def _said(self, event: RunStarted | SandboxStarted | ProfileChosen) -> list[str]:
        match event:
            case RunStarted():
                return [*self._notices, *changed(self._recording, self._settings, self._stored)]
            case SandboxStarted():
                return changed(self._recording, sandbox=event)
            case ProfileChosen():
                return changed(self._recording, profile=event)
