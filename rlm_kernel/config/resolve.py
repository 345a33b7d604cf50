"""`resolve`: the one place where the sources of settings meet."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import Any, cast

from rlm_kernel.config.models import DEFAULT_SUB_MODEL
from rlm_kernel.config.setting import PREFIX
from rlm_kernel.config.settings import SETTINGS, Settings
from rlm_kernel.errors import ConfigError

DEBUG_VARIABLE = f"{PREFIX}DEBUG"


def resolve(options: Mapping[str, str | None] | None = None, env: Mapping[str, str] | None = None) -> Settings:
    """Return the settings that `options` (by field name, None: not given), `env` and the defaults make, in that order.

    Raise `ConfigError` for a value that can't be, an unknown option, and an unknown `RLM_KERNEL_` variable.
    """
    given = {name: text for name, text in (options or {}).items() if text is not None}
    variables = os.environ if env is None else env
    _refuse_unknown(given, variables)
    values: dict[str, object] = {}
    for setting in SETTINGS:
        if setting.name in given:
            values[setting.name] = setting.read(given[setting.name], setting.option)
        elif variables.get(setting.variable):
            values[setting.name] = setting.read(variables[setting.variable], setting.variable)
    if "model" not in values and "sub_model" not in values:
        values["sub_model"] = DEFAULT_SUB_MODEL
    return Settings(**cast(Any, values))


def _refuse_unknown(options: Mapping[str, str], env: Mapping[str, str]) -> None:
    names = [setting.name for setting in SETTINGS]
    for name in options:
        if name not in names:
            raise ConfigError(f"there is no setting {name!r}{nearest(name, names)}")
    known = [*(setting.variable for setting in SETTINGS), DEBUG_VARIABLE]
    for name in env:
        if name.startswith(PREFIX) and name not in known:
            raise ConfigError(f"the environment variable {name} means nothing{nearest(name, known)}; unset it")


def nearest(name: str, known: list[str]) -> str:
    """Return `; did you mean …?` with the nearest of `known`, or nothing."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
