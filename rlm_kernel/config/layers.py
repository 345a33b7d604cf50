"""The sources of settings, each as a layer: what it gives by setting, and where that stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from rlm_kernel.config.documents import Document, read_document
from rlm_kernel.config.nearest import hint, nearest
from rlm_kernel.config.setting import PREFIX
from rlm_kernel.config.settings import SETTINGS
from rlm_kernel.errors import ConfigError

CONFIG = "config"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
DEBUG_VARIABLE = f"{PREFIX}DEBUG"
NO_FILE = "none"

BY_NAME = {setting.name: setting for setting in SETTINGS}


@dataclass(frozen=True, slots=True)
class Given:
    """A setting's value, text or as a file has it, and where it stands, in words for people."""

    value: object
    origin: str


Layer = Mapping[str, Given]


def from_options(options: Mapping[str, str | None]) -> Layer:
    """Return what the command line gives. Raise `ConfigError` for a name that is no setting's."""
    given = {name: text for name, text in options.items() if text is not None and name != CONFIG}
    for name in given:
        if name not in BY_NAME:
            raise ConfigError(f"there is no setting {name!r}{nearest(name, BY_NAME)}")
    return {name: Given(text, BY_NAME[name].option) for name, text in given.items()}


def from_environment(env: Mapping[str, str]) -> Layer:
    """Return what the environment gives. Raise `ConfigError` for a variable of our prefix that means nothing."""
    known = [*(setting.variable for setting in SETTINGS), CONFIG_VARIABLE, DEBUG_VARIABLE]
    for name in env:
        if name.startswith(PREFIX) and name not in known:
            raise ConfigError(f"the environment variable {name} means nothing{nearest(name, known)}; unset it")
    return {
        setting.name: Given(env[setting.variable], setting.variable)
        for setting in SETTINGS
        if env.get(setting.variable)
    }


def from_file(path: Path) -> Layer:
    """Return what a TOML file gives. Raise `ConfigError`, naming the file, for what can't be read and what is wrong."""
    document = read_document(path, ".toml")
    for name in document.value:
        if name not in BY_NAME:
            raise ConfigError(f"{document.place(name)} is no setting{hint(name, BY_NAME)}")
    return {name: _from_document(document, name) for name in document.value}


def _from_document(document: Document, name: str) -> Given:
    place = document.place(name)
    return Given(BY_NAME[name].read_value(document.value[name], place), place)


def config_files(named: str | None) -> tuple[Path, ...]:
    """Return the files to read, the one that goes first in front: the one that is `named`, then the user's own.

    No file is looked for in the working directory: whoever wrote that could decide where contexts go.
    """
    if named == NO_FILE:
        return ()
    own = platformdirs.user_config_path("rlm_kernel") / "config.toml"
    found = (own,) if _may_be_there(own) else ()
    return (Path(named).expanduser().absolute(), *found) if named else found


def _may_be_there(path: Path) -> bool:
    """Return whether there is something at `path`; what can't be told is told by reading it."""
    try:
        return path.exists()
    except OSError:
        return True
