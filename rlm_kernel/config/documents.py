"""Files that hold settings or a job: TOML, JSON or YAML, read within bounds and with every name given once."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from rlm_kernel.errors import ConfigError

MOST_NESTING = 50
MOST_BYTES = 2**20
MOST_YAML_BYTES = 2**18
"""YAML takes the longest to read: some seconds for so much."""


@dataclass(frozen=True, slots=True)
class Document:
    """What a file holds: `value` is made of dicts with text keys, lists and plain values; TOML has times too."""

    path: Path
    text: str
    value: Any

    def place(self, key: str) -> str:
        """Return where `key` stands, as `path:line: key`, without the line if it is not found."""
        found = re.search(rf"^[ \t]*[\"']?{re.escape(key)}[\"']?[ \t]*[=:]", self.text, re.MULTILINE)
        line = f":{self.text.count(chr(10), 0, found.start()) + 1}" if found else ""
        return f"{self.path}{line}: {key}"


def read_document(path: Path, form: str | None = None) -> Document:
    """Read the file at `path`, whose suffix, or `form`, says what it is. Raise `ConfigError`."""
    read = FORMS[form or path.suffix.lower()]
    most = MOST_YAML_BYTES if read is _read_yaml else MOST_BYTES
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path} can't be read: {reason}") from None
    if len(data) > most:
        raise ConfigError(f"{path} has more than {most // 1024} KiB: name long texts by their path")
    try:
        text = data.decode("utf-8-sig")
        value = read(text)
        _check_nesting(value)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: byte {error.start} can't be read") from None
    except RecursionError:
        raise ConfigError(f"{path} nests deeper than {MOST_NESTING}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    return Document(path, text, value)


def _check_nesting(value: Any) -> None:
    level = [value]
    for _ in range(MOST_NESTING):
        level = [item for each in level if isinstance(each, dict | list) for item in _items(each)]
        if not level:
            return
    raise RecursionError


def _items(value: Any) -> list[Any]:
    return [*value.values()] if isinstance(value, dict) else value


_LONG_KEY = re.compile(
    r"(?<![\w-])(?:(?:[\w-]++|\"[^\"\n]*+\"|'[^'\n]*+')[ \t]*+\.[ \t]*+){%d}" % MOST_NESTING  # noqa: UP031 - braces
)
"""A key of so many parts; the reader takes the square of their number, in steps."""


def _read_toml(text: str) -> Any:
    if _LONG_KEY.search(text):
        raise RecursionError
    return tomllib.loads(text)


def _read_yaml(text: str) -> Any:
    from rlm_kernel.config.yaml import read_yaml  # noqa: PLC0415 - it takes long to load, and few need it

    return read_yaml(text)


def _read_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made:
            raise ValueError(f"the key {name!r} stands twice in one object")
        made[name] = value
    return made


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


FORMS: dict[str, Callable[[str], Any]] = {
    ".json": _read_json,
    ".toml": _read_toml,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
}
