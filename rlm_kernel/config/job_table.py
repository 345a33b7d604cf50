"""The tables of a job's file, read key by key; each knows its place, which errors name."""

from __future__ import annotations

import math
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlm_kernel.config.layers import BY_NAME
from rlm_kernel.config.nearest import hint, nearest
from rlm_kernel.errors import ConfigError, ContextNotFound, ContextUnreadable
from rlm_kernel.types import JSON

SCRIPTED = "scripted:"


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a job: `nodes[1].context` in `origin`. Paths there are relative to `base`, and lie in `root` or it."""

    origin: str
    base: Path
    root: Path | None = None
    name: str = ""

    def at(self, key: str) -> Place:
        """Return the place of one of its keys."""
        key = key[:100]
        return replace(self, name=f"{self.name}.{key}" if self.name else key)

    def item(self, number: int) -> Place:
        """Return the place of one of its items."""
        return replace(self, name=f"{self.name or 'nodes'}[{number}]")

    @property
    def words(self) -> str:
        """It in words."""
        return f"{self.origin}: {self.name}" if self.name else self.origin

    def error(self, message: str) -> ConfigError:
        """Return what to raise for what is wrong here."""
        return ConfigError(f"{self.words} {message}")

    def path(self, text: str) -> Path:
        """Return the file or folder that `text` names. Raise `ConfigError` or a `ContextError`."""
        path = self._inside(text)
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            raise ContextNotFound(f"{self.words}: there is nothing at {path}") from None
        except OSError as error:
            raise ContextUnreadable(f"{self.words}: {error.strerror}: {str(path)[:1000]}") from None
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise ContextUnreadable(f"{self.words}: {path} is neither a file nor a folder")
        return path

    def _inside(self, text: str) -> Path:
        try:
            path = (self.base / text).resolve()
        except (OSError, ValueError, RuntimeError) as error:
            raise self.error(f"is no path: {error}") from None
        root = (self.root or self.base).resolve()
        if not path.is_relative_to(root):
            raise self.error(f"is {path}, which lies outside of {root}: allow more with --root")
        return path

    def model(self, name: str) -> str:
        """Return a model's name; a scripted one's file is relative to the job's."""
        return f"{SCRIPTED}{self.path(name.removeprefix(SCRIPTED))}" if name.startswith(SCRIPTED) else name

    def profile(self, name: str) -> str:
        """Return a profile's name; the path of one is relative to the job."""
        return str(self.path(name)) if name.endswith(".md") else name

    def json(self, value: Any) -> JSON:
        """Return `value`. Raise `ConfigError` for what JSON does not have."""
        match value:
            case None | str() | bool() | int():
                pass
            case float() if math.isfinite(value):
                pass
            case list():
                for number, item in enumerate(value):
                    self.item(number).json(item)
            case dict():
                for key, item in value.items():
                    self.at(key).json(item)
            case _:
                raise self.error(f"holds a {type(value).__name__}, which JSON does not have: make it text")
        checked: JSON = value
        return checked


class JobTable:
    """One table, whose keys are among `known`; None for any. Raise `ConfigError` for another one."""

    def __init__(self, value: Any, place: Place, known: Iterable[str] | None) -> None:
        if not isinstance(value, Mapping):
            raise place.error("must be a table")
        self.value: dict[str, Any] = dict(value)
        self.place = place
        for key in self.value:
            if not isinstance(key, str):
                raise place.error(f"has the key {str(key)[:100]}, which is no text")
            if known is not None and key not in (names := list(known)):
                there = '; as a setting it stands in "settings"' if key in BY_NAME else hint(key, names)
                raise place.at(key).error(f"means nothing{there}")

    def __contains__(self, key: str) -> bool:
        return key in self.value

    def text(self, key: str, *, needed: bool = False) -> Any:
        """Return a text; None where there is none and none is needed."""
        value = self.value.get(key)
        if value is None and not needed:
            return None
        if not isinstance(value, str) or not value.strip():
            raise self.place.at(key).error("is missing" if value is None else "must be text")
        return value

    def one_of(self, key: str, other: str) -> str | None:
        """Return the text that has one of two names."""
        if key in self and other in self:
            raise self.place.at(other).error(f"means the same as {key}: give one of them")
        value: str | None = self.text(other if other in self else key)
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """Return a yes or no."""
        value = self.value.get(key, default)
        if not isinstance(value, bool):
            raise self.place.at(key).error("must be true or false")
        return value

    def choice(self, key: str, choices: tuple[str, ...]) -> str | None:
        """Return one of `choices`, or None where there is none."""
        value: str | None = self.text(key)
        if value is not None and value not in choices:
            raise self.place.at(key).error(f"must be one of {', '.join(choices)}{nearest(value, choices)}")
        return value

    def table(self, key: str, known: Iterable[str] | None) -> JobTable:
        """Return a table within this one."""
        return JobTable(self.value[key], self.place.at(key), known)
