"""`Settings`: all settings together."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_type_hints

from rlm_kernel.config.container import ContainerSettings
from rlm_kernel.config.limits import LimitSettings
from rlm_kernel.config.models import ModelSettings
from rlm_kernel.config.places import PlaceSettings
from rlm_kernel.config.prompting import PromptingSettings
from rlm_kernel.config.providers import ProviderSettings
from rlm_kernel.config.recursion import RecursionSettings
from rlm_kernel.config.setting import Setting
from rlm_kernel.config.work import WorkSettings
from rlm_kernel.errors import ConfigError
from rlm_kernel.types import JSON


@dataclass(frozen=True, kw_only=True)
class Settings(
    ModelSettings,
    ProviderSettings,
    PromptingSettings,
    LimitSettings,
    RecursionSettings,
    WorkSettings,
    ContainerSettings,
    PlaceSettings,
):
    """Everything that can be set for a run; sizes are in bytes, times in seconds. Raise `ConfigError` if one is wrong.

    A group of settings is a base class, in a module of its own; its docstring begins with the words for it.
    """

    def __post_init__(self) -> None:
        for setting in SETTINGS:
            setting.check(getattr(self, setting.name))
        if self.uid_last < self.uid_first:
            raise ConfigError(f"--uid-last {self.uid_last} is below --uid-first {self.uid_first}")

    def as_json(self) -> dict[str, JSON]:
        """Return every setting as JSON, for the recording; none of them is a secret."""
        values = {setting.name: getattr(self, setting.name) for setting in SETTINGS}
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def _settings_of(group: type) -> list[Setting]:
    hints = get_type_hints(group, include_extras=True)
    words = re.split("[.,;]", group.__doc__ or "")[0]
    return [replace(hint.__metadata__[0], name=name, group=words) for name, hint in hints.items()]


SETTINGS: tuple[Setting, ...] = tuple(setting for group in Settings.__bases__ for setting in _settings_of(group))


def changed_settings(settings: Settings) -> set[str]:
    """Return the names of those that are not as by default."""
    usual = Settings()
    return {each.name for each in SETTINGS if getattr(settings, each.name) != getattr(usual, each.name)}
