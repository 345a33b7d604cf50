"""How a setting's value is read from text; each function raises `ValueError` for what it can't read."""

from __future__ import annotations

import re
from pathlib import Path

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|)", re.IGNORECASE)
_DURATION_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def parse_size(text: str) -> int:
    """Return the bytes that `text` means: `1048576`, `512m`, `2g`, `1.5GiB`; units are powers of 1024."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size such as 512m or 2g")
    return int(float(match[1]) * _SIZE_UNITS[match[2].lower()])


def parse_duration(text: str) -> float:
    """Return the seconds that `text` means: `90`, `90s`, `5m`, `1.5h`."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration such as 90, 90s, 5m or 1h")
    return float(match[1]) * _DURATION_UNITS[match[2].lower()]


def parse_whole(text: str) -> int:
    """Return the whole number that `text` is."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


def parse_each(text: str) -> int | str:
    """Return the whole number that `text` is, or `text` itself if it is one for each of some: `openai=500,vllm=50`."""
    if "=" not in text:
        return parse_whole(text)
    if any(number < 1 for number in _each(text).values()):
        raise ValueError(f"{text!r} has a number below 1")
    return text


def for_provider(value: int | str | None, provider: str) -> int | None:
    """Return the number for `provider` in what `parse_each` returned; None is no number."""
    return _each(value).get(provider) if isinstance(value, str) else value


def providers_in(value: int | str | None) -> list[str]:
    """Return the providers that `value` names."""
    return list(_each(value)) if isinstance(value, str) else []


def _each(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in text.split(","):
        provider, equals, number = (word.strip() for word in part.partition("="))
        if not equals or not provider or provider in found:
            raise ValueError(f"{text!r} is neither a whole number nor like openai=500,anthropic=50")
        found[provider] = parse_whole(number)
    return found


def parse_number(text: str) -> float:
    """Return the number that `text` is."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def parse_flag(text: str) -> bool:
    """Return whether `text` says yes: `1`, `true`, `yes`, `on`, or no: `0`, `false`, `no`, `off`."""
    word = text.strip().lower()
    if word not in _YES + _NO:
        raise ValueError(f"{text!r} is neither yes nor no")
    return word in _YES


def parse_redaction(text: str) -> str:
    """Return `text` if `hooks_of` knows what it names."""
    from rlm_kernel.recording import hooks_of  # noqa: PLC0415 - it takes long to load, and few need it

    hooks_of(text)
    return text


def parse_path(text: str) -> Path:
    """Return the path that `text` is, in full."""
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise ValueError(f"{text!r} is in the home of somebody who is not known here") from None
