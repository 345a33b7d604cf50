"""The settings of a run, each resolved in one place: command line, then environment, then default."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_type_hints

import platformdirs

from rlm_kernel.errors import ConfigError
from rlm_kernel.types import JSON

PREFIX = "RLM_KERNEL_"
DEBUG_VARIABLE = f"{PREFIX}DEBUG"
DEFAULT_MODEL = "openai:gpt-5"
DEFAULT_SUB_MODEL = "openai:gpt-5-mini"

Carrier = Literal["auto", "socket", "attach"]

LEAST_UID, MOST_UID = 1000, 65533
"""Below are the system's users, above is nobody."""
LEAST_MEMORY = 224 * 2**20
"""A session without any context fits into this."""

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|)", re.IGNORECASE)
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_DURATION_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


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


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


def _number(text: str) -> float:
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


def _carrier(text: str) -> str:
    if text not in ("auto", "socket", "attach"):
        raise ValueError(f"{text!r} is none of auto, socket, attach")
    return text


def _path(text: str) -> Path:
    return Path(text).expanduser().absolute()


@dataclass(frozen=True, slots=True)
class Setting:
    """How one field of `Settings` is read from text, what it must lie between, and what help says of it."""

    help: str
    metavar: str
    parse: Callable[[str], object]
    least: float | None = None
    most: float | None = None
    optional: bool = False
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
        try:
            return self.parse(text)
        except ValueError as error:
            raise ConfigError(f"{origin}: {error}") from None


def _default_state_dir() -> Path:
    return platformdirs.user_state_path("rlm_kernel")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set for a run; sizes are in bytes, times in seconds. Raise `ConfigError` if one is wrong.

    `sub_model` None is the root model. `None` elsewhere means no limit of ours.
    """

    model: Annotated[str, Setting("The root model, as provider:name.", "MODEL", str)] = DEFAULT_MODEL
    sub_model: Annotated[
        str | None, Setting("The model that cells call; the root model if not given.", "MODEL", str, optional=True)
    ] = None
    max_turns: Annotated[
        int, Setting("Turns of the root model before it is asked for its best answer.", "N", _whole, least=1)
    ] = 30
    cell_timeout: Annotated[float, Setting("Time that one cell may run.", "TIME", parse_duration, least=0.1)] = 300.0
    run_timeout: Annotated[
        float | None, Setting("Time that the whole run may take.", "TIME", parse_duration, least=1, optional=True)
    ] = None
    max_parallel_subcalls: Annotated[
        int, Setting("Sub-calls in flight at once.", "N", _whole, least=1, most=10_000)
    ] = 50
    max_reply_tokens: Annotated[
        int | None, Setting("Tokens that one reply may have.", "N", _whole, least=1, optional=True)
    ] = None
    memory: Annotated[int, Setting("Memory of the container.", "SIZE", parse_size, least=LEAST_MEMORY)] = 2**30
    cpus: Annotated[float, Setting("CPUs of the container.", "N", _number, least=0.1, most=1024)] = 1.0
    pids: Annotated[int, Setting("Processes and threads in the container.", "N", _whole, least=32)] = 256
    nofile: Annotated[int, Setting("Open files of a process in the container.", "N", _whole, least=128)] = 1024
    tmp_size: Annotated[
        int, Setting("Size of the container's /tmp, counted as its memory.", "SIZE", parse_size, least=2**20)
    ] = 64 * 2**20
    uid_first: Annotated[
        int,
        Setting(
            "First user id for containers; each session has one of its own.",
            "UID",
            _whole,
            least=LEAST_UID,
            most=MOST_UID,
        ),
    ] = 40_000
    uid_last: Annotated[int, Setting("Last user id for containers.", "UID", _whole, least=LEAST_UID, most=MOST_UID)] = (
        49_999
    )
    carrier: Annotated[
        Carrier, Setting("How host and guest are joined: auto, socket or attach.", "CARRIER", _carrier)
    ] = "auto"
    pool_size: Annotated[
        int,
        Setting("Sandboxes kept started ahead, for programs that run many sessions.", "N", _whole, least=0, most=1000),
    ] = 0
    docker_host: Annotated[
        str | None, Setting("The Docker engine's address; DOCKER_HOST if not given.", "URL", str, optional=True)
    ] = None
    oci_runtime: Annotated[
        str | None,
        Setting(
            "The engine's name of the OCI runtime, such as runsc; its default one if not given.",
            "NAME",
            str,
            optional=True,
        ),
    ] = None
    state_dir: Annotated[Path, Setting("Where recordings and contexts are kept.", "FOLDER", _path)] = field(
        default_factory=_default_state_dir
    )
    request_timeout: Annotated[
        float, Setting("Time that one attempt of a model call may take.", "TIME", parse_duration, least=0.1)
    ] = 120.0
    retry_attempts: Annotated[int, Setting("Attempts that one model call gets.", "N", _whole, least=1, most=100)] = 6
    retry_time: Annotated[
        float, Setting("Time that all attempts of one model call may take.", "TIME", parse_duration, least=0)
    ] = 300.0
    rebuild: Annotated[
        bool,
        Setting("Run the finished cells again, with their recorded answers, when a kernel is lost.", "", parse_flag),
    ] = False
    shown_output: Annotated[
        int, Setting("Characters of a cell's output that the root model is shown.", "N", _whole, least=500)
    ] = 8000

    def __post_init__(self) -> None:
        for setting in SETTINGS:
            _check(setting, getattr(self, setting.name))
        if self.uid_last < self.uid_first:
            raise ConfigError(f"--uid-last {self.uid_last} is below --uid-first {self.uid_first}")

    @property
    def contexts_dir(self) -> Path:
        """The folder of the content store."""
        return self.state_dir / "contexts"

    @property
    def sessions_dir(self) -> Path:
        """The folder that holds a folder for each live session."""
        return self.state_dir / "sessions"

    @property
    def runs_dir(self) -> Path:
        """The folder that holds a folder for each run."""
        return self.state_dir / "runs"

    def as_json(self) -> dict[str, JSON]:
        """Return every setting as JSON, for the recording; none of them is a secret."""
        values = {setting.name: getattr(self, setting.name) for setting in SETTINGS}
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


SETTINGS: tuple[Setting, ...] = tuple(
    replace(hint.__metadata__[0], name=name) for name, hint in get_type_hints(Settings, include_extras=True).items()
)


def _check(setting: Setting, value: object) -> None:
    if value is None:
        if not setting.optional:
            raise ConfigError(f"{setting.option} must have a value")
    elif isinstance(value, str):
        if not value.strip():
            raise ConfigError(f"{setting.option} is empty")
        if setting.name == "carrier":
            setting.read(value, setting.option)
    elif isinstance(value, int | float):
        if setting.least is not None and not value >= setting.least:
            raise ConfigError(
                f"{setting.option} must be at least {setting.shown(setting.least)}, not {setting.shown(value)}"
            )
        if setting.most is not None and value > setting.most:
            raise ConfigError(
                f"{setting.option} must be at most {setting.shown(setting.most)}, not {setting.shown(value)}"
            )


def resolve(options: Mapping[str, str | None] | None = None, env: Mapping[str, str] | None = None) -> Settings:
    """Return the settings that `options` (by field name, None: not given), `env` and the defaults make, in that order.

    Raise `ConfigError` for a value that can't be, an unknown option, and an unknown `RLM_KERNEL_` variable.
    """
    given = {name: text for name, text in (options or {}).items() if text is not None}
    variables = os.environ if env is None else env
    _refuse_unknown(given, variables)
    values: dict[str, object] = {}
    for setting in SETTINGS:
        if setting.name in given:
            values[setting.name] = setting.read(given[setting.name], setting.option)
        elif variables.get(setting.variable):
            values[setting.name] = setting.read(variables[setting.variable], setting.variable)
    if "model" not in values and "sub_model" not in values:
        values["sub_model"] = DEFAULT_SUB_MODEL
    return Settings(**cast(Any, values))


def _refuse_unknown(options: Mapping[str, str], env: Mapping[str, str]) -> None:
    names = [setting.name for setting in SETTINGS]
    for name in options:
        if name not in names:
            raise ConfigError(f"there is no setting {name!r}{nearest(name, names)}")
    known = [*(setting.variable for setting in SETTINGS), DEBUG_VARIABLE]
    for name in env:
        if name.startswith(PREFIX) and name not in known:
            raise ConfigError(f"the environment variable {name} means nothing{nearest(name, known)}; unset it")


def nearest(name: str, known: list[str]) -> str:
    """Return `; did you mean …?` with the nearest of `known`, or nothing."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
