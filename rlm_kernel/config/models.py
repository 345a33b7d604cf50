"""The settings that choose models and say how long and how often they are asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from rlm_kernel.config.setting import Setting
from rlm_kernel.config.values import parse_duration, parse_whole

DEFAULT_MODEL = "openai:gpt-5"
DEFAULT_SUB_MODEL = "openai:gpt-5-mini"


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Which models there are, and one call's bounds; `sub_model` None is the root model."""

    model: Annotated[str, Setting("The root model, as provider:name.", "MODEL", str)] = DEFAULT_MODEL
    sub_model: Annotated[
        str | None, Setting("The model that cells call; the root model if not given.", "MODEL", str, optional=True)
    ] = None
    max_reply_tokens: Annotated[
        int | None, Setting("Tokens that one reply may have.", "N", parse_whole, least=1, optional=True)
    ] = None
    request_timeout: Annotated[
        float, Setting("Time that one attempt of a model call may take.", "TIME", parse_duration, least=0.1)
    ] = 120.0
    retry_attempts: Annotated[
        int, Setting("Attempts that one model call gets.", "N", parse_whole, least=1, most=100)
    ] = 6
    retry_time: Annotated[
        float, Setting("Time that all attempts of one model call may take.", "TIME", parse_duration, least=0)
    ] = 300.0
