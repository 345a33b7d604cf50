"""Options that commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from rlm_kernel.cli.progress import Progress, ProgressConsole
from rlm_kernel.config import SETTINGS, Setting, Settings

F = TypeVar("F", bound=Callable[..., Any])
MACHINE = frozenset(
    [
        "memory",
        "cpus",
        "pids",
        "nofile",
        "tmp_size",
        "uid_first",
        "uid_last",
        "carrier",
        "docker_host",
        "state_dir",
        "oci_runtime",
    ]
)


class InOrder(click.Group):
    """A group that lists its commands in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return their names."""
        return [*self.commands]


class GroupingCommand(click.Command):
    """A command whose help has the settings by group, below its own options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a list of options under each group's words."""
        groups: dict[str, list[tuple[str, str]]] = {}
        of = {setting.name: setting.group for setting in SETTINGS}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)):
                groups.setdefault(of.get(parameter.name or "", "Options"), []).append(record)
        for words, records in groups.items():
            with formatter.section(words):
                formatter.write_dl(records)


def settings_options(command: F) -> F:
    """Give `command` one option for each setting, and `--config`, as text; `resolve` reads them."""
    return _with_options(command, SETTINGS)


def machine_options(*more: str) -> Callable[[F], F]:
    """Give a command an option for each setting that a session's container or the engine has to do with, and `more`."""
    return lambda command: _with_options(command, [each for each in SETTINGS if each.name in MACHINE | {*more}])


def _with_options(command: F, settings: Sequence[Setting]) -> F:
    named = "A TOML file of settings, which goes before the user's own; `none` for no file."
    command = click.option("--config", metavar="FILE", help=named)(command)
    for setting in reversed(settings):
        default = default_text(setting)
        shown = f"{setting.help}  [default: {default}]" if default else setting.help
        if setting.is_flag:
            names = f"{setting.option}/{setting.option.replace('--', '--no-', 1)}"
            command = click.option(names, setting.name, default=None, callback=_flag_as_text, help=shown)(command)
        else:
            command = click.option(setting.option, metavar=setting.metavar, help=shown)(command)
    return command


def _flag_as_text(context: click.Context, parameter: click.Parameter, value: bool | None) -> str | None:
    return None if value is None else str(value)


_PLACES = {"state_dir": "$XDG_STATE_HOME/rlm_kernel", "profiles_dir": "$XDG_CONFIG_HOME/rlm_kernel/profiles"}


def default_text(setting: Setting) -> str:
    """Return a setting's default as one would write it; nothing where it is absent."""
    if setting.name in _PLACES:
        return _PLACES[setting.name]
    value = getattr(Settings(), setting.name)
    if value is None:
        return ""
    return value if isinstance(value, str) else setting.shown(value)


@dataclass(frozen=True, slots=True)
class Output:
    """How a command talks: only the answer (`quiet`), one JSON object (`as_json`), or all code too (`verbose`)."""

    quiet: bool
    as_json: bool
    verbose: bool

    def say(self, text: str) -> None:
        """Write a remark to standard error, unless only the result is wanted."""
        if not (self.quiet or self.as_json):
            click.echo(text, err=True)

    def progress(self) -> Progress:
        """Return the display for standard error; a silent one for `quiet` and `as_json`."""
        return Progress(ProgressConsole(stderr=True, quiet=self.quiet or self.as_json), verbose=self.verbose)


def output_options(command: F) -> F:
    """Give `command` the options that make an `Output`."""
    options = (
        click.option("-q", "--quiet", is_flag=True, help="Write only the answer, to standard output."),
        click.option("--json", "as_json", is_flag=True, help="Write one JSON object to standard output, errors too."),
        click.option("-v", "--verbose", is_flag=True, help="Show every cell's code and output."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def chosen_output(*, quiet: bool, as_json: bool, verbose: bool) -> Output:
    """Return the `Output` for these flags. Raise `UsageError` if they exclude each other."""
    if verbose and (quiet or as_json):
        raise click.UsageError("--verbose can't go with --quiet or --json")
    return Output(quiet, as_json, verbose)
