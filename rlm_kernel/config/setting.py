"""`Setting`: what one field of `Settings` is called in each place, and what it may be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rlm_kernel.config.values import parse_flag, parse_size
from rlm_kernel.errors import ConfigError

PREFIX = "RLM_KERNEL_"


@dataclass(frozen=True, slots=True)
class Setting:
    """How one field of `Settings` is read from text, what it must lie between, and what help says of it.

    `choices` are the texts that it may be, none for any; `optional` says that it may be None.
    """

    help: str
    metavar: str
    parse: Callable[[str], object]
    least: float | None = None
    most: float | None = None
    optional: bool = False
    choices: tuple[str, ...] = ()
    name: str = ""

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

    def check(self, value: object, origin: str | None = None) -> None:
        """Raise `ConfigError`, naming `origin` or the option, if the setting can't be `value`."""
        origin = origin or self.option
        match value:
            case None if not self.optional:
                raise ConfigError(f"{origin} must have a value")
            case str() if not value.strip():
                raise ConfigError(f"{origin} is empty")
            case str() if self.choices and value not in self.choices:
                raise ConfigError(f"{origin}: {value!r} is none of {', '.join(self.choices)}")
            case int() | float() if self.least is not None and not value >= self.least:
                raise ConfigError(f"{origin} must be at least {self.shown(self.least)}, not {self.shown(value)}")
            case int() | float() if self.most is not None and value > self.most:
                raise ConfigError(f"{origin} must be at most {self.shown(self.most)}, not {self.shown(value)}")
            case str():
                self._parsed(value, origin)
            case _:
                pass

    def _parsed(self, text: str, origin: str) -> object:
        try:
            return self.parse(text)
        except ValueError as error:
            raise ConfigError(f"{origin}: {error}") from None
