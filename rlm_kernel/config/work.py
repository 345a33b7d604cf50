"""The settings of how a session works with its model and its kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from rlm_kernel.config.setting import Setting
from rlm_kernel.config.values import parse_flag, parse_whole
from rlm_kernel.toolkit import DEFAULT_STRATEGY, STRATEGIES, Strategy


@dataclass(frozen=True, kw_only=True)
class WorkSettings:
    """How cells run, what of them is shown, and what is done when a kernel is lost."""

    rebuild: Annotated[
        bool,
        Setting("Run the finished cells again, with their recorded answers, when a kernel is lost.", "", parse_flag),
    ] = False
    default_chunk_strategy: Annotated[
        Strategy, Setting("Where chunk() cuts in cells that do not say.", "STRATEGY", str, choices=STRATEGIES)
    ] = DEFAULT_STRATEGY
    shown_output: Annotated[
        int, Setting("Characters of a cell's output that the root model is shown.", "N", parse_whole, least=500)
    ] = 8000
