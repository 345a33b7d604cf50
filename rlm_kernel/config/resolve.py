"""`resolve`: the one place where the sources of settings meet."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from rlm_kernel.config.layers import (
    CONFIG,
    CONFIG_VARIABLE,
    Layer,
    config_files,
    from_environment,
    from_file,
    from_options,
)
from rlm_kernel.config.models import DEFAULT_SUB_MODEL
from rlm_kernel.config.settings import SETTINGS, Settings


@dataclass(frozen=True, slots=True)
class Resolved:
    """Settings, where each of them that is no default was given, and the files that were read."""

    settings: Settings
    origins: dict[str, str]
    files: tuple[Path, ...]


def resolve(options: Mapping[str, str | None] | None = None, env: Mapping[str, str] | None = None) -> Settings:
    """Return the settings that `options` (by field name, None: not given), `env`, files and the defaults make.

    They go before each other in that order. `config` among the options names a file, as `trace` says.
    """
    return trace(options, env).settings


def trace(
    options: Mapping[str, str | None] | None = None, env: Mapping[str, str] | None = None, *jobs: Layer
) -> Resolved:
    """Return the settings, and where each comes from: options, `jobs`, `env`, files, default; the first counts.

    The files are the one that the option `config` or `RLM_KERNEL_CONFIG` names, and then the user's own; "none" is no
    file. Raise `ConfigError` for a value that can't be and for every name that nobody knows.
    """
    options = options or {}
    variables = os.environ if env is None else env
    given = from_options(options)
    environment = from_environment(variables)
    files = config_files(options.get(CONFIG) or variables.get(CONFIG_VARIABLE))
    layers = (given, *jobs, environment, *map(from_file, files))
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    for setting in SETTINGS:
        found = next((layer[setting.name] for layer in layers if setting.name in layer), None)
        if found is not None:
            values[setting.name] = setting.read_value(found.value, found.origin)
            origins[setting.name] = found.origin
    if "model" not in values and "sub_model" not in values:
        values["sub_model"] = DEFAULT_SUB_MODEL
    return Resolved(Settings(**cast(Any, values)), origins, files)
