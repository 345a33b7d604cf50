"""The settings of how the root model is led and how its replies come."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

import platformdirs

from rlm_kernel.config.setting import Setting
from rlm_kernel.config.values import parse_path, parse_whole

ToolCalling = Literal["auto", "on", "off"]
Stream = Literal["auto", "on", "off"]


def _default_profiles_dir() -> Path:
    return platformdirs.user_config_path("rlm_kernel") / "profiles"


@dataclass(frozen=True, kw_only=True)
class PromptingSettings:
    """What the root model is told, whether it calls a tool or writes fences, and how much it can read."""

    profile: Annotated[
        str | None,
        Setting(
            "The prompt profile, by name or path; the one that fits the model's name if not given.",
            "NAME/PATH",
            str,
            optional=True,
        ),
    ] = None
    profiles_dir: Annotated[Path, Setting("Where your own prompt profiles are.", "FOLDER", parse_path)] = field(
        default_factory=_default_profiles_dir
    )
    tool_calling: Annotated[
        ToolCalling,
        Setting(
            "Whether the root model calls a tool or writes fences: on, off, or auto for what its profile says.",
            "WHEN",
            str,
            choices=get_args(ToolCalling),
        ),
    ] = "auto"
    stream: Annotated[
        Stream,
        Setting(
            "Whether the root model's replies are streamed: on, off, or auto for where they are shown as they come.",
            "WHEN",
            str,
            choices=get_args(Stream),
        ),
    ] = "auto"
    model_window: Annotated[
        int | None,
        Setting(
            "Tokens that the root model can read; what its profile or the price list says if not given.",
            "N",
            parse_whole,
            least=1000,
            optional=True,
        ),
    ] = None
