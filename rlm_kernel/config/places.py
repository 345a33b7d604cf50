"""The settings of what is kept, and where."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import platformdirs

from rlm_kernel.config.setting import Setting
from rlm_kernel.config.values import parse_flag, parse_number, parse_path, parse_redaction, parse_size


def _default_state_dir() -> Path:
    return platformdirs.user_state_path("rlm_kernel")


@dataclass(frozen=True, kw_only=True)
class PlaceSettings:
    """What stays after a run, and where."""

    state_dir: Annotated[Path, Setting("Where recordings and contexts are kept.", "FOLDER", parse_path)] = field(
        default_factory=_default_state_dir
    )
    keep_recording: Annotated[
        bool, Setting("Keep a run's recording after its end; one that crashed leaves its own.", "", parse_flag)
    ] = True
    redact: Annotated[
        str | None,
        Setting(
            "What is kept out of recordings: keys (API keys and tokens), /REGEX/, or both with a comma between.",
            "WHAT",
            parse_redaction,
            optional=True,
        ),
    ] = None
    keep_runs_days: Annotated[
        float | None,
        Setting(
            "Days after which recorded runs are removed, at the end of a run; for ever if not given.",
            "N",
            parse_number,
            least=0.01,
            optional=True,
        ),
    ] = None
    keep_runs_size: Annotated[
        int | None,
        Setting(
            "What recorded runs may take up together; the oldest are removed at the end of a run.",
            "SIZE",
            parse_size,
            least=0,
            optional=True,
        ),
    ] = None

    @property
    def contexts_dir(self) -> Path:
        """The folder of the content store."""
        return self.state_dir / "contexts"

    @property
    def answers_dir(self) -> Path:
        """The folder of answers to sub-calls."""
        return self.state_dir / "answers"

    @property
    def sessions_dir(self) -> Path:
        """The folder that holds a folder for each live session."""
        return self.state_dir / "sessions"

    @property
    def runs_dir(self) -> Path:
        """The folder that holds a folder for each run."""
        return self.state_dir / "runs"
