"""Points in time as people write and read them; dates are UTC, as those in runs' ids are."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import click

_AGO = re.compile(r"(\d{1,6})\s*([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SHOWN = (("y", 365 * 86400), ("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


class When(click.ParamType[float]):
    """A date, a date and a time, or how long ago: `2026-11-20`, `2026-11-20T15:30`, `2d`; it is seconds since 1970."""

    name = "when"

    def __init__(self, now: float | None = None) -> None:
        self._now = now

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the time that is meant."""
        text = str(value).strip()
        if match := _AGO.fullmatch(text):
            now = datetime.now(UTC).timestamp() if self._now is None else self._now
            return now - int(match[1]) * _UNITS[match[2]]
        try:
            read = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{text[:100]!r} is neither a date such as 2026-11-20 nor a time ago such as 2d", param, ctx)
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()


def age(seconds: float) -> str:
    """Return how long ago something was, in the largest unit: `40s`, `5m`, `3h`, `12d`."""
    return next((f"{seconds // unit:.0f}{name}" for name, unit in _SHOWN if seconds >= unit), "now")


def utc(at: float) -> str:
    """Return a time as `2026-11-20T15:30:00Z`; what no calendar has is empty."""
    try:
        return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return ""
