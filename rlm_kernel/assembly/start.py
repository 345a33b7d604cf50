"""`Start`: what a run begins with, where that is not always the same."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from rlm_kernel.assembly.budgets import open_budget
from rlm_kernel.assembly.kept import Kept
from rlm_kernel.assembly.models import Models
from rlm_kernel.assembly.rerun.played import PlayedSession
from rlm_kernel.assembly.run import Run
from rlm_kernel.assembly.tools import toolbox
from rlm_kernel.budget import Budget, Prices
from rlm_kernel.config import Settings
from rlm_kernel.events import RunOrigin, TreeSink
from rlm_kernel.sandbox.stored import Stored
from rlm_kernel.tools import Toolbox


class Start:
    """The beginning of a run of its own; one that goes on from a recording has other parts."""

    played: PlayedSession | None = None
    """What leads the run's session, where that was recorded."""
    origin: RunOrigin | None = None

    def models(self, kept: Kept) -> AbstractAsyncContextManager[Models]:
        """Open the models. Raise a `ConfigError`."""
        return Models.open(kept.settings, kept.clients)

    def tools(self, kept: Kept, stored: Stored) -> Toolbox:
        """Return the run's own tools. Raise a `ConfigError`."""
        return toolbox(kept.tools, stored, kept.settings)

    def budget(self, kept: Kept, prices: Mapping[str, Prices | None], run: Run) -> Budget:
        """Return the run's budget, which begins now."""
        return open_budget(kept.settings, prices, run)

    def sink(self, sink: TreeSink, settings: Settings, stored: Stored) -> TreeSink:
        """Return where the run's events go."""
        return sink

    def recorded(self, path: Path) -> None:
        """Do what is to be done with the complete recording, before it goes if it is not to be kept."""
