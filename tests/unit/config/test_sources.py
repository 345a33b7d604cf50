"""Every setting can come from every source, and the sources go before each other in one order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from rlm_kernel.cli.commands import cli
from rlm_kernel.cli.configuration import as_toml
from rlm_kernel.cli.options import default_text
from rlm_kernel.config import SETTINGS, Setting, Settings, resolve, trace
from rlm_kernel.config.layers import Given
from rlm_kernel.config.values import parse_redaction
from rlm_kernel.errors import ConfigError

DEFAULTS = Settings()
SOURCES = ("option", "job", "variable", "named file", "own file")


def other(setting: Setting, number: int) -> str:
    """Return the text of a value that is not the default; another one for each number, if there are so many."""
    default = getattr(DEFAULTS, setting.name)
    if setting.choices:
        return setting.choices[number % len(setting.choices)]
    if setting.metavar in ("MODEL", "NAME", "URL", "FOLDER") or isinstance(default, str | Path):
        return f"/text-{number}"
    if setting.parse is parse_redaction:
        return f"/text-{number}/"
    least = setting.least or 0
    if setting.most is not None and setting.most <= 1:
        return str(least + (setting.most - least) * (number + 1) / 10)
    return str(int(max(least, 1)) + number + 1)


def written(setting: Setting, text: str) -> str:
    """Return the line of a TOML file that gives a setting as text."""
    return f'{setting.name} = "{text}"\n'


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own file, which is not there yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    path = tmp_path / "xdg" / "rlm_kernel" / "config.toml"
    path.parent.mkdir(parents=True)
    return path


def resolved_from(setting: Setting, sources: list[str], own: Path) -> object:
    """Return a setting's value where `sources` give it, each a value of its own."""
    named = own.with_name("named.toml")
    texts = {source: other(setting, number) for number, source in enumerate(SOURCES)}
    named.write_text(written(setting, texts["named file"]) if "named file" in sources else "")
    own.write_text(written(setting, texts["own file"]) if "own file" in sources else "")
    options = {"config": str(named)} | ({setting.name: texts["option"]} if "option" in sources else {})
    env = {setting.variable: texts["variable"]} if "variable" in sources else {}
    job = {setting.name: Given(texts["job"], "job.json")} if "job" in sources else {}
    return getattr(trace(options, env, job).settings, setting.name)


FREE = [each for each in SETTINGS if not each.is_flag and each.name not in ("uid_first", "uid_last")]


@pytest.mark.parametrize("setting", FREE, ids=lambda each: each.name)
def test_the_first_source_that_gives_a_setting_counts(setting: Setting, own: Path) -> None:
    """Command line, job, environment, the named file, the user's own file: each goes before those after it."""
    for first, source in enumerate(SOURCES):
        assert resolved_from(setting, list(SOURCES[first:]), own) == setting.read(other(setting, first), source)
    assert resolved_from(setting, [], own) == getattr(resolve({}, {}), setting.name)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda each: each.name)
def test_every_setting_can_be_set_from_everywhere(setting: Setting, own: Path) -> None:
    """A setting's option, its variable and its key in a file are there, as soon as its field is."""
    value = getattr(resolve({}, {}), setting.name)
    (line,) = (each for each in as_toml(trace({}, {})).splitlines() if each.split(" = ")[0] == setting.name)
    own.write_text(line)
    resolved = trace({}, {})
    assert (getattr(resolved.settings, setting.name), resolved.files) == (value, (own,))
    assert resolved.origins == {setting.name: f"{own}:1: {setting.name}"}
    run = cli.commands["run"]
    assert any(setting.option in parameter.opts for parameter in run.params)
    text = str(value).lower() if value is not None else "none"
    assert trace({}, {setting.variable: text}).origins[setting.name] == setting.variable


def test_the_page_has_every_setting() -> None:
    """docs/cli.md lists each setting with its default and the words of its help."""
    page = (Path(__file__).parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")
    table = page.partition("| Option | Default | Meaning |\n")[2].partition("\n\n")[0].splitlines()[1:]
    assert table == [
        f"| `{f'{each.option} {each.metavar}'.strip()}` | {default_text(each)} | {each.help} |" for each in SETTINGS
    ]


def test_what_config_prints_is_a_file_that_means_the_same(own: Path, tmp_path: Path) -> None:
    """`rlm-kernel config > FILE` keeps every value as it is."""
    given = trace(
        {
            "memory": "300000001",
            "max_turns": "7",
            "cell_timeout": "0.25",
            "rebuild": "True",
            "docker_host": 'tcp://"é\\x":1',
            "state_dir": str(tmp_path / 'a "quoted" \n folder'),
        },
        {"RLM_KERNEL_CPUS": "0.5"},
    )
    own.write_text(as_toml(given), encoding="utf-8")
    assert trace({}, {}).settings == given.settings


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_is_written_so_that_it_reads_the_same(model: str, folder: str) -> None:
    """Quotes, line ends and control characters of a value do not break the file."""
    import tomllib  # noqa: PLC0415

    try:
        resolved = trace({"model": model, "docker_host": f"x{folder}"}, {})
    except ConfigError:
        return
    if any("\ud800" <= each <= "\udfff" for each in model + folder):
        return
    read = tomllib.loads(as_toml(resolved))
    assert (read["model"], read["docker_host"]) == (model, f"x{folder}")


BAD = [
    ("memroy = 1", r"config.toml:1: memroy is no setting; did you mean memory\?"),
    ("pids = 64\nmax-turns = 3", r"config.toml:2: max-turns is no setting; did you mean max_turns\?"),
    ("[models]\nroot = 1", "models is no setting"),
    ('api_key = "sk-1"', "api_key is no setting; keys and other secrets stay in the environment"),
    ('anthropic_api_key = "sk-1"', "set ANTHROPIC_API_KEY"),
    ('password = "x"', "secrets stay in the environment"),
    ('memory = "lots"', "config.toml:1: memory: 'lots' is not a size"),
    ("memory = true", 'memory must be a size such as "512m", not true'),
    ("memory = 5", "memory must be at least 224m"),
    ("max_turns = 2.5", "max_turns: '2.5' is not a whole number"),
    ("max_turns = [1]", "max_turns must be a number, not a list"),
    ("max_turns = {a = 1}", "max_turns must be a number, not a table"),
    ("max_turns = 1979-05-27", "max_turns must be a number, not a date"),
    ("max_turns = 9007199254740993", "so large a number"),
    (f"max_turns = 0x{'f' * 9000}", "so large a number"),
    (f"max_turns = {'9' * 9000}", "config.toml: "),
    ('max_turns = "9007199254740993"', "must be at most 9007199254740992"),
    ("run_timeout = inf", "so large a number"),
    ("run_timeout = nan", "so large a number"),
    ("rebuild = 1", "rebuild must be true or false, not 1"),
    ("model = 5", "model must be text, not 5"),
    ("state_dir = 5", "state_dir must be text, not 5"),
    ('carrier = "pigeon"', "none of auto, socket, attach"),
    ("pids = 64\npids = 65", "config.toml: "),
    ("pids = ", r"config.toml: .*at end of document"),
    ("a = " + "[" * 5000, "nests deeper"),
    ("# " + "x" * 2**20, "more than 1024 KiB"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[text[:24] for text, _ in BAD])
def test_a_bad_file_is_refused_with_file_line_and_key(text: str, message: str, own: Path) -> None:
    """Nothing in a file is passed over, and no secret in it is shown."""
    own.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        resolve({}, {})
    assert str(own) in str(caught.value)
    assert "sk-1" not in str(caught.value)


def test_a_file_that_is_named_has_to_be_there(own: Path, tmp_path: Path) -> None:
    """The user's own file may be missing; one that was asked for may not, and none can be asked for."""
    assert trace({}, {}).files == ()
    with pytest.raises(ConfigError, match=r"nope\.toml can't be read: No such file"):
        resolve({"config": str(tmp_path / "nope.toml")}, {})
    with pytest.raises(ConfigError, match="Is a directory"):
        resolve({}, {"RLM_KERNEL_CONFIG": str(tmp_path)})
    own.write_text("no setting = 1")
    assert (
        resolve({"config": "none"}, {}) == resolve({}, {"RLM_KERNEL_CONFIG": "none"}) == resolve({"config": "none"}, {})
    )
    own.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        resolve({}, {})


def test_a_file_that_cannot_be_reached_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of settings that can't be entered is an error, not a folder without settings."""
    monkeypatch.setenv("XDG_CONFIG_HOME", f"/{'x' * 300}")
    with pytest.raises(ConfigError, match=r"config\.toml can't be read: File name too long"):
        resolve({}, {})


def test_no_file_is_looked_for_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that someone else wrote can't set where contexts go, by being the current one."""
    for name in ("config.toml", "rlm-kernel.toml", "rlm_kernel.toml", ".rlm_kernel.toml", "pyproject.toml"):
        (tmp_path / name).write_text('docker_host = "tcp://evil:1"\n[tool.rlm_kernel]\ndocker_host = "tcp://evil:1"\n')
    monkeypatch.chdir(tmp_path)
    assert trace({}, {}).files == ()
    assert resolve({}, {}).docker_host is None


def show(*arguments: str) -> Any:
    """Run `rlm-kernel config` and return what it did."""
    return CliRunner().invoke(cli, ["config", *arguments], catch_exceptions=True, env={"RLM_KERNEL_PIDS": "77"})


def test_the_command_tells_where_each_value_is_from(own: Path) -> None:
    """Each line has its origin; `--json` has both too, and the files that were read."""
    import json  # noqa: PLC0415

    own.write_text("\nmax_turns = 9\n")
    lines = show("--cpus", "2").output.splitlines()
    assert f"max_turns = 9  # {own}:2: max_turns" in lines
    assert "cpus = 2  # --cpus" in lines
    assert "pids = 77  # RLM_KERNEL_PIDS" in lines
    assert 'memory = "1024m"  # default' in lines
    found = json.loads(show("--json").output)
    assert found["files"] == [str(own)]
    assert found["settings"]["max_turns"] == {"value": 9, "from": f"{own}:2: max_turns"}
    assert set(found["settings"]) == {setting.name for setting in SETTINGS}
