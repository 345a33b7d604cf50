"""The settings of a run, each resolved in one place: command line, environment, files, default."""

from rlm_kernel.config.container import LEAST_MEMORY, LEAST_UID, MOST_UID, Carrier
from rlm_kernel.config.layers import CONFIG_VARIABLE, DEBUG_VARIABLE
from rlm_kernel.config.models import DEFAULT_MODEL, DEFAULT_SUB_MODEL
from rlm_kernel.config.nearest import nearest
from rlm_kernel.config.providers import Cache
from rlm_kernel.config.resolve import Resolved, resolve, trace
from rlm_kernel.config.setting import PREFIX, Setting
from rlm_kernel.config.settings import SETTINGS, Settings, changed_settings
from rlm_kernel.config.values import for_provider, parse_duration, parse_flag, parse_size, providers_in

__all__ = [
    "CONFIG_VARIABLE",
    "DEBUG_VARIABLE",
    "DEFAULT_MODEL",
    "DEFAULT_SUB_MODEL",
    "LEAST_MEMORY",
    "LEAST_UID",
    "MOST_UID",
    "PREFIX",
    "SETTINGS",
    "Cache",
    "Carrier",
    "Resolved",
    "Setting",
    "Settings",
    "changed_settings",
    "for_provider",
    "nearest",
    "parse_duration",
    "parse_flag",
    "parse_size",
    "providers_in",
    "resolve",
    "trace",
]
