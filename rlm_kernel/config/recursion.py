"""The settings of sessions that answer the calls of others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from rlm_kernel.config.setting import Setting
from rlm_kernel.config.values import parse_number, parse_whole

AtMaxDepth = Literal["refuse", "plain"]


@dataclass(frozen=True, kw_only=True)
class RecursionSettings:
    """How sessions start sessions of their own."""

    max_sessions: Annotated[
        int,
        Setting(
            "Sessions that run at once; one that waits for sessions below it does not count.",
            "N",
            parse_whole,
            least=1,
            most=10_000,
        ),
    ] = 16
    at_max_depth: Annotated[
        AtMaxDepth,
        Setting(
            "What rlm_query does at the depth limit: refuse, or plain for one call of a model.",
            "CHOICE",
            str,
            choices=get_args(AtMaxDepth),
        ),
    ] = "refuse"
    child_share: Annotated[
        float,
        Setting(
            "Share of what is left of the budget that the calls of rlm_query at one time may use.",
            "SHARE",
            parse_number,
            least=0.01,
            most=1,
        ),
    ] = 0.5
