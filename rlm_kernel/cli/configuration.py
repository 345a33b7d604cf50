"""`rlm-kernel config`: every setting's value, and where it comes from."""

from __future__ import annotations

import json
from pathlib import Path

import click

from rlm_kernel.cli.options import GroupingCommand, settings_options
from rlm_kernel.cli.text import clean
from rlm_kernel.config import SETTINGS, Resolved, Setting, trace
from rlm_kernel.types import JSON

DEFAULT = "default"


@click.command(cls=GroupingCommand)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object to standard output.")
@settings_options
def config(*, as_json: bool, **options: str | None) -> None:
    """Show every setting's value, and where it comes from.

    What it writes is a file that --config takes. The options are those of `run`, so that it tells what a run with them
    would have.
    """
    resolved = trace(options)
    click.echo(json.dumps(_as_json(resolved)) if as_json else clean(as_toml(resolved)))


def _as_json(resolved: Resolved) -> dict[str, JSON]:
    values = resolved.settings.as_json()
    settings: dict[str, JSON] = {
        name: {"value": value, "from": resolved.origins.get(name, DEFAULT)} for name, value in values.items()
    }
    return {"files": [str(path) for path in resolved.files], "settings": settings}


def as_toml(resolved: Resolved) -> str:
    """Return all settings as TOML that means the same, with the origin of each as a comment."""
    lines = [
        f"{setting.name} = {_toml(setting, getattr(resolved.settings, setting.name))}"
        f"  # {resolved.origins.get(setting.name, DEFAULT).encode('unicode_escape').decode()}"
        for setting in SETTINGS
    ]
    return "\n".join(lines)


def _toml(setting: Setting, value: object) -> str:
    match value:
        case None:
            return '"none"'
        case bool():
            return "true" if value else "false"
        case int() if setting.metavar == "SIZE" and value % 2**20 == 0:
            return f'"{value // 2**20}m"'
        case float() if value.is_integer():
            return str(int(value))
        case str() | Path():
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value)
