"""Each kind of bad input has its own message and exit status, before anything is started."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_kernel.cli.commands import cli
from tests.unit.cli.conftest import RunCommand


@pytest.fixture
def text(tmp_path: Path) -> str:
    """The path of a context that is fine."""
    (tmp_path / "text.txt").write_text("some text")
    return str(tmp_path / "text.txt")


@pytest.fixture
def script(tmp_path: Path) -> str:
    """The name of a model that needs no key."""
    (tmp_path / "script.md").write_text("--- turn ---\nFINAL(42)\n")
    return f"scripted:{tmp_path / 'script.md'}"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--context", "{text}", " \n "], 3, "the question is empty"),
        (["--context", "{text}"], 2, "Missing argument 'QUESTION'"),
        (["--context", "{text}", "--modle", "x", "why?"], 2, "No such option '--modle'"),
        (["--context", "{text}", "--model", "gpt-5", "why?"], 4, "names no provider"),
        (["--context", "{text}", "--model", "opnai:gpt-5", "why?"], 4, "did you mean openai?"),
        (["--context", "{text}", "--model", "local:big", "why?"], 4, "there is no local model 'big'"),
        (["--context", "{text}", "why?"], 5, "OPENAI_API_KEY"),
        (["--context", "{text}", "--sub-model", "anthropic:x", "--model", "{script}", "why?"], 5, "ANTHROPIC_API_KEY"),
        (["--context", "{text}", "--model", "scripted:/no/script.md", "why?"], 2, "no script at /no/script.md"),
        (["--context", "{text}", "--memory", "lots", "why?"], 2, "--memory: 'lots' is not a size"),
        (["--context", "{text}", "--state-dir", "~nobody-here/x", "why?"], 2, "the home of somebody who is not known"),
        (["--context", "{text}", "--quiet", "--verbose", "why?"], 2, "--verbose can't go with"),
        (["--context", "{text}x", "--model", "{script}", "why?"], 11, "did you mean"),
        (
            ["--context", "{text}", "--context", "b={text}", "--model", "{script}", "why?"],
            2,
            "several contexts need a name each",
        ),
        (
            ["--context", "b={text}", "--context", "b={text}", "--model", "{script}", "why?"],
            2,
            "two contexts have the same name",
        ),
        (
            ["--context", "a=-", "--context", "b=-", "--model", "{script}", "why?"],
            2,
            "only one context can be standard",
        ),
        (["--context", "print={text}", "--model", "{script}", "why?"], 2, "'print' can't be the name of a context"),
        (["--context", "b={text}x", "--model", "{script}", "why?"], 11, "did you mean"),
        (["--context", "json:{text}", "--model", "{script}", "why?"], 10, "text.txt is not JSON"),
        (["--context", "b=table:/tmp", "--model", "{script}", "why?"], 12, "is a folder; table is what a file"),
        (["--context", "/proc/self/mem", "--model", "{script}", "why?"], 12, "can't read /proc/self/mem"),
    ],
)
def test_bad_arguments(
    command: RunCommand, text: str, script: str, arguments: list[str], status: int, message: str
) -> None:
    """The message is on standard error, in plain words, and standard output stays empty."""
    ended = command("run", *(argument.format(text=text, script=script) for argument in arguments))
    assert (ended.status, ended.out) == (status, "")
    assert message in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("stdin", "status", "message"),
    [(b"text\0", 13, "stdin is binary"), (b"caf\xe9", 14, "stdin is not UTF-8 from byte 3 on")],
)
@pytest.mark.parametrize("form", [[], ["--context", "table:-"], ["--context", "lines=jsonl:-"]])
def test_bad_standard_input(
    command: RunCommand, script: str, stdin: bytes, status: int, message: str, form: list[str]
) -> None:
    """What is piped in is checked as a file is, whatever it is read as."""
    ended = command("run", "--model", script, *form, "why?", stdin=stdin)
    assert (ended.status, message in ended.err) == (status, True)


def test_nothing_that_is_piped_in_is_no_context(command: RunCommand, script: str) -> None:
    """Where standard input happens to be empty, as in cron, no model is asked about nothing."""
    ended = command("run", "--model", script, "why?")
    assert (ended.status, "there is no context: give --context PATH, or pipe it in" in ended.err) == (2, True)


def test_a_folder_with_binary_files_tells_the_way_out(command: RunCommand, script: str, tmp_path: Path) -> None:
    """The message names the files and the option."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x.bin").write_bytes(b"\0")
    ended = command("run", "--model", script, "--context", str(tmp_path / "folder"), "why?")
    assert ended.status == 13
    assert "x.bin; leave them out with --skip-binary" in ended.err


def test_models_are_checked_before_a_long_context_is_read(command: RunCommand) -> None:
    """With a key missing and a bad context, the key is what is said: nobody waits for a long read in vain."""
    assert command("run", "--context", "/no/such/file", "why?").status == 5


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (None, "can't be read: No such file"),
        ("{", "is not JSON"),
        ("[1]", "is no JSON object"),
        ('{"type": "objekt"}', "is no JSON schema: $.type"),
        ('{"$ref": "http://127.0.0.1:9/x"}', "refers to 'http://127.0.0.1:9/x', which it does not hold"),
    ],
)
def test_a_bad_schema_is_told_first(
    command: RunCommand, script: str, tmp_path: Path, schema: str | None, message: str
) -> None:
    """A wrong schema is told before the context is looked for, and nothing is fetched for it."""
    file = tmp_path / "schema.json"
    if schema is not None:
        file.write_text(schema)
    ended = command("run", "--model", script, "--context", "/no/such/file", "--answer-schema", str(file), "why?")
    assert (ended.status, message in ended.err) == (2, True)


def test_an_unknown_variable_stops_everything(command: RunCommand, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A typing mistake in the environment is a usage error."""
    monkeypatch.setenv("RLM_KERNEL_MODLE", "x")
    ended = command("run", "--context", text, "why?")
    assert (ended.status, "did you mean RLM_KERNEL_MODEL?" in ended.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "error", "status"),
    [(["why?", "--nope"], "NoSuchOption", 2), ([""], "EmptyQuestion", 3), (["why?"], "MissingKey", 5)],
)
def test_with_json_errors_are_json_too(
    command: RunCommand, text: str, arguments: list[str], error: str, status: int
) -> None:
    """Standard output holds one object with the error's class, its message and the status; standard error nothing."""
    ended = command("run", "--json", "--context", text, *arguments)
    assert (ended.status, ended.err) == (status, "")
    assert ended.json.keys() == {"error", "message", "exit_status"}
    assert (ended.json["error"], ended.json["exit_status"]) == (error, status)


def test_no_engine(text: str, script: str, tmp_path: Path) -> None:
    """Where no engine answers, the message names the address and the way out.

    In a process of its own, as docker-py does not close the socket that it could not connect.
    """
    arguments = ["run", "--model", script, "--context", text, "--docker-host", "unix:///no/docker.sock", "why?"]
    ended = subprocess.run(
        [sys.executable, "-m", "rlm_kernel", *arguments, "--state-dir", str(tmp_path / "state")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (21, "")
    assert "no container engine answers at unix:///no/docker.sock" in ended.stderr


@pytest.mark.parametrize("place", ["{text}", "/proc/x", "/dev/null/x"])
def test_a_state_folder_that_cannot_be_used(command: RunCommand, script: str, text: str, place: str) -> None:
    """A file in its place, or a place where nothing can be made, is named with the option."""
    ended = command("run", "--model", script, "--context", text, "--state-dir", place.format(text=text), "why?")
    assert (ended.status, ended.out) == (7, "")
    assert "choose another folder with --state-dir" in ended.err


def test_a_context_larger_than_the_memory(command: RunCommand, script: str, tmp_path: Path) -> None:
    """It is refused by its size, before it is read."""
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(2**40)
    ended = command("run", "--model", script, "--context", str(tmp_path / "huge"), "why?")
    assert (ended.status, "with --memory" in ended.err) == (15, True)


def test_endless_input_is_refused(command: RunCommand, script: str) -> None:
    """Standard input is refused as soon as it has more than the memory."""
    ended = command("run", "--model", script, "--memory", "224m", "why?", stdin=b"x" * (225 * 2**20))
    assert (ended.status, "stdin has 225.0 MiB or more" in ended.err) == (15, True)


@pytest.fixture
def bug() -> Iterator[str]:
    """Give the name of a command with a bug."""

    @cli.command("bug")
    def fails() -> None:
        raise ZeroDivisionError("\r\x1b]0;title\x07red")

    yield "bug"
    del cli.commands["bug"]


def test_an_unexpected_error_asks_for_a_report(command: RunCommand, bug: str) -> None:
    """Something nobody thought of is one short message, with status 1."""
    ended = command(bug)
    assert ended.status == 1
    assert "an unexpected ZeroDivisionError: red" in ended.err
    assert "RLM_KERNEL_DEBUG=1" in ended.err
    assert "Traceback" not in ended.err


def test_debugging_shows_the_traceback(command: RunCommand, monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    """With RLM_KERNEL_DEBUG=1 the same failure says where it happened, as clean as everything else."""
    monkeypatch.setenv("RLM_KERNEL_DEBUG", "1")
    ended = command(bug)
    assert "Traceback" in ended.err
    assert "ZeroDivisionError: red" in ended.err
    assert set(ended.err).isdisjoint("\r\x07\x1b")


def test_without_a_command_the_help_is_shown(command: RunCommand) -> None:
    """It is a usage error, and the help is complete: every exit status is in it."""
    ended = command()
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("Usage: rlm-kernel")
    assert "130  Interrupted" in ended.err


def test_the_version(command: RunCommand) -> None:
    """`--version` names the package's version."""
    from rlm_kernel import __version__  # noqa: PLC0415 - what is compared

    assert command("--version").out == f"rlm-kernel, version {__version__}\n"


def test_a_reader_that_went_away_is_no_traceback() -> None:
    """`rlm-kernel … | head -c0` ends with the status of a broken pipe, silently."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rlm_kernel", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (141, b"")
