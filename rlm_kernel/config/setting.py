"""`Setting`: what one field of `Settings` is called in each place, and what it may be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rlm_kernel.config.values import parse_flag, parse_size
from rlm_kernel.errors import ConfigError

PREFIX = "RLM_KERNEL_"
MOST = 2**53
"""No number may be larger: JSON could not carry it to every reader of a recording."""

LONGEST_TEXT = 5_000
"""Characters of a setting, with room for a path."""

_WANTED = {"N": "a number", "UID": "a number", "SIZE": 'a size such as "512m"', "TIME": 'a time such as "5m"'}


@dataclass(frozen=True, slots=True)
class Setting:
    """How one field of `Settings` is read from text, what it must lie between, and what help says of it.

    `choices` are the texts that it may be, none for any; `optional` says that it may be None. `group` is what it and
    those beside it are about, in words.
    """

    help: str
    metavar: str
    parse: Callable[[str], object]
    least: float | None = None
    most: float | None = None
    optional: bool = False
    choices: tuple[str, ...] = ()
    name: str = ""
    group: str = ""

    @property
    def option(self) -> str:
        """The option of the command line."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def variable(self) -> str:
        """The environment variable."""
        return PREFIX + self.name.upper()

    @property
    def is_flag(self) -> bool:
        """Whether it is on or off, so that its option takes no value."""
        return self.parse is parse_flag

    def shown(self, value: int | float) -> str:
        """Return a number, or a flag, as one would write it."""
        if self.is_flag:
            return "on" if value else "off"
        if self.parse is parse_size:
            return f"{value // 2**20:.0f}m"
        return f"{value:g}" if isinstance(value, float) else str(value)

    def read(self, text: str, origin: str) -> object:
        """Return the value that `text` from `origin` means. Raise `ConfigError` naming the origin."""
        if self.optional and text.strip().lower() == "none":
            return None
        value = self._parsed(text, origin)
        self.check(value, origin)
        return value

    def read_value(self, value: object, origin: str) -> object:
        """Return what `value`, as a file or `read` gives it, means: text is read as on the command line.

        Raise `ConfigError` naming the origin.
        """
        if isinstance(value, str):
            return self.read(value, origin)
        if value is None or isinstance(value, Path):
            self.check(value, origin)
            return value
        if isinstance(value, int | float) and isinstance(value, bool) == self.is_flag and abs(value) <= MOST:
            read = self.read(str(value), origin)
            if not isinstance(read, str | Path):
                return read
        raise ConfigError(f"{origin} must be {self._wanted}, not {_described(value)}")

    @property
    def _wanted(self) -> str:
        """What a file may have here, in words."""
        if self.is_flag:
            return "true or false"
        return _WANTED.get(self.metavar, "text")

    def check(self, value: object, origin: str | None = None) -> None:
        """Raise `ConfigError`, naming `origin` or the option, if the setting can't be `value`."""
        origin = origin or self.option
        match value:
            case None if not self.optional:
                raise ConfigError(f"{origin} must have a value")
            case str() if not value.strip():
                raise ConfigError(f"{origin} is empty")
            case str() if self.choices and value not in self.choices:
                raise ConfigError(f"{origin}: {value[:200]!r} is none of {', '.join(self.choices)}")
            case int() | float() if self.least is not None and not value >= self.least:
                raise ConfigError(f"{origin} must be at least {self.shown(self.least)}, not {self.shown(value)}")
            case int() | float() if value > (most := MOST if self.most is None else self.most):
                raise ConfigError(f"{origin} must be at most {self.shown(most)}, not {self.shown(value)}")
            case str():
                self._parsed(value, origin)
            case _:
                pass

    def _parsed(self, text: str, origin: str) -> object:
        if len(text) > LONGEST_TEXT:
            raise ConfigError(f"{origin} has {len(text):,} characters, and at most {LONGEST_TEXT:,} can be")
        try:
            return self.parse(text)
        except ValueError as error:
            raise ConfigError(f"{origin}: {error}") from None


def _described(value: object) -> str:
    """Return a value of the wrong type, without its contents where it has any."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float() if abs(value) <= MOST:
            return f"{value:g}" if isinstance(value, float) else str(value)
        case int() | float():
            return "so large a number"
        case dict():
            return "a table"
        case list():
            return "a list"
    return f"a {type(value).__name__}"
