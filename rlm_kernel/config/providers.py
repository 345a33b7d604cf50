"""The settings that spare providers: what they are asked at most, and which answers serve twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from rlm_kernel.config.setting import Setting
from rlm_kernel.config.values import parse_each, parse_flag, parse_size

Cache = Literal["off", "read", "write"]


@dataclass(frozen=True, kw_only=True)
class ProviderSettings:
    """What all runs of this process together may ask of a provider, and how sub-calls share answers.

    A limit is a number for every provider, or texts such as `openai=500,anthropic=50` for some.
    """

    requests_per_minute: Annotated[
        int | str | None, Setting("Requests to one provider in a minute.", "N", parse_each, least=1, optional=True)
    ] = None
    tokens_per_minute: Annotated[
        int | str | None,
        Setting("Tokens to and from one provider in a minute.", "N", parse_each, least=1, optional=True),
    ] = None
    provider_concurrency: Annotated[
        int | str | None, Setting("Requests with one provider at once.", "N", parse_each, least=1, optional=True)
    ] = None
    cache: Annotated[
        Cache,
        Setting(
            "Answers of earlier identical sub-calls: off; read them; or write new ones too.",
            "MODE",
            str,
            choices=("off", "read", "write"),
        ),
    ] = "off"
    cache_size: Annotated[int, Setting("What the stored answers may take up.", "SIZE", parse_size, least=2**20)] = 2**30
    coalesce: Annotated[
        bool, Setting("Ask once for identical sub-calls that are made at the same time; a cache does.", "", parse_flag)
    ] = False
