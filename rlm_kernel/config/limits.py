"""The settings that bound a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from rlm_kernel.config.setting import Setting
from rlm_kernel.config.values import parse_duration, parse_whole


@dataclass(frozen=True, kw_only=True)
class LimitSettings:
    """What a run may take; None means no limit of ours."""

    max_turns: Annotated[
        int, Setting("Turns of the root model before it is asked for its best answer.", "N", parse_whole, least=1)
    ] = 30
    cell_timeout: Annotated[float, Setting("Time that one cell may run.", "TIME", parse_duration, least=0.1)] = 300.0
    run_timeout: Annotated[
        float | None, Setting("Time that the whole run may take.", "TIME", parse_duration, least=1, optional=True)
    ] = None
    max_parallel_subcalls: Annotated[
        int, Setting("Sub-calls in flight at once.", "N", parse_whole, least=1, most=10_000)
    ] = 50
