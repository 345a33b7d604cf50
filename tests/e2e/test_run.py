"""`rlm-kernel run` from a command line to an answer out of a container."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import docker
import pytest

from tests.e2e.conftest import Program, containers_of

Script = Callable[..., str]
CLI = ("-m", "rlm_kernel", "run")
COUNT_LINES = "print(type(context).__name__, len(context))\nFINAL(len(context.splitlines()))"


@pytest.fixture
def text(tmp_path: Path) -> str:
    """The path of a text of 1,000 lines."""
    (tmp_path / "text.txt").write_text("a line\n" * 1000)
    return str(tmp_path / "text.txt")


def test_the_answer_is_all_there_is_on_standard_output(program: Program, script: Script, text: str) -> None:
    """Standard output can be used by a script as it is; progress and the recording's place are on standard error."""
    ended = program.run(*CLI, "--model", script(COUNT_LINES), "--context", text, "how many lines?")
    assert (ended.status, ended.out) == (0, "1000\n")
    assert "turn 1 · cell 1 ok" in ended.err
    recording = Path(ended.err.rpartition("recording: ")[2].strip())
    assert recording.is_dir()
    assert recording.stat().st_mode & 0o777 == 0o700


def test_quiet_writes_nothing_else(program: Program, script: Script, text: str) -> None:
    """With `--quiet` a run that goes well leaves standard error empty."""
    ended = program.run(*CLI, "--quiet", "--model", script(COUNT_LINES), "--context", text, "how many lines?")
    assert (ended.status, ended.out, ended.err) == (0, "1000\n", "")


def test_json_holds_the_whole_result(program: Program, script: Script, text: str) -> None:
    """With `--json` one object tells everything; standard error is empty."""
    model = script(COUNT_LINES)
    ended = program.run(*CLI, "--json", "--model", model, "--context", text, "how many lines?")
    assert (ended.status, ended.err) == (0, "")
    result = ended.json
    fields = ["answer", "status", "reason", "run", "recording", "head", "usage", "cost_usd", "seconds", "turns"]
    assert list(result) == fields
    assert (result["answer"], result["status"], result["turns"], result["cost_usd"]) == ("1000", "answered", 1, 0)
    assert result["reason"] is None
    assert result["usage"][model]["calls"] == 1
    assert Path(result["recording"]).is_relative_to(program.state)


@pytest.mark.parametrize("context", [["--context", "-"], []], ids=["a dash", "no option"])
def test_standard_input_is_a_context(program: Program, script: Script, context: list[str]) -> None:
    """What is piped in becomes a `str`."""
    ended = program.run(*CLI, "--model", script(COUNT_LINES), *context, "how many lines?", given="1\n2\n3\n")
    assert (ended.status, ended.out) == (0, "3\n")


def test_a_folder_is_a_dict_from_path_to_text(program: Program, script: Script, tmp_path: Path) -> None:
    """A folder's texts are there by their paths, its binary files left out on demand, which a note says."""
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    (tmp_path / "folder" / "sub" / "é.txt").write_text("héllo 🙂")
    (tmp_path / "folder" / "a.txt").write_text("")
    (tmp_path / "folder" / "b.bin").write_bytes(b"\0")
    arguments = ("--skip-binary", "--context", str(tmp_path / "folder"), "what is there?")
    ended = program.run(*CLI, "--model", script("FINAL(repr(dict(context)))"), *arguments)
    assert (ended.status, ended.out) == (0, "{'a.txt': '', 'sub/é.txt': 'héllo 🙂'}\n")
    assert "note: not text, so left out: b.bin" in ended.err


def test_verbose_shows_code_and_output_without_what_steers_a_terminal(
    program: Program, script: Script, text: str
) -> None:
    """The guest's escape sequences don't reach the terminal."""
    model = script("print('\\x1b]0;owned\\x07shown')\nFINAL(1)")
    ended = program.run(*CLI, "--verbose", "--model", model, "--context", text, "why?")
    assert ended.status == 0
    assert "  shown" in ended.err
    assert "\x1b" not in ended.err


def test_a_cell_that_kills_its_kernel_does_not_end_the_run(program: Program, script: Script, text: str) -> None:
    """The kernel is replaced, the display says so, and the next turn answers."""
    model = script("import os\nos._exit(1)", "FINAL('still here')")
    ended = program.run(*CLI, "--model", model, "--context", text, "why?")
    assert (ended.status, ended.out) == (0, "still here\n")
    assert "cell 1 lost its kernel" in ended.err
    assert "the kernel is lost" in ended.err


def test_a_model_that_never_answers_gives_its_best_at_the_end(
    program: Program, script: Script, text: str, tmp_path: Path
) -> None:
    """When the turns ran out, the last request's reply is printed, with a status of its own."""
    model = script("x = 1")
    with (tmp_path / "script.md").open("a") as file:
        file.write("--- turn ---\nabout a thousand\n")
    ended = program.run(*CLI, "--max-turns", "1", "--json", "--model", model, "--context", text, "why?")
    assert ended.status == 41
    assert (ended.json["status"], ended.json["answer"]) == ("partial", "about a thousand")


def test_a_model_that_only_ever_writes_code_gives_no_answer(program: Program, script: Script, text: str) -> None:
    """When even the last request brings code, there is no answer, and a status that says so."""
    model = script("x = 1", "x = 2")
    ended = program.run(*CLI, "--max-turns", "1", "--json", "--model", model, "--context", text, "why?")
    assert (ended.status, ended.json["error"]) == (40, "NoAnswer")


def test_a_model_that_fails_has_its_own_status(program: Program, script: Script, text: str) -> None:
    """A script without another turn ends the run with an error, and the container is gone."""
    ended = program.run(*CLI, "--json", "--model", script("x = 1"), "--context", text, "why?")
    assert ended.status == ended.json["exit_status"] == 34
    assert ended.json["error"] == "ScriptExhausted"


def test_a_disk_that_is_full_ends_the_run(
    program: Program, script: Script, text: str, engine: docker.APIClient
) -> None:
    """When no more can be recorded the run ends with a status and words of its own, and the container goes."""
    model = script("print('x' * 100_000)", "FINAL(1)")
    process = program.start(*CLI, "--model", model, "--context", text, "why?", file_size=60_000)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 16
    assert "--state-dir" in err
    assert containers_of(engine, process.pid) == []


def test_a_context_that_does_not_fit_is_refused(program: Program, script: Script, tmp_path: Path) -> None:
    """The message says how much memory would do."""
    (tmp_path / "big.txt").write_text("🙂" + "x" * 100_000_000)
    arguments = ("--memory", "224m", "--context", str(tmp_path / "big.txt"), "why?")
    ended = program.run(*CLI, "--json", "--model", script("x = 1"), *arguments)
    assert (ended.status, ended.json["error"]) == (15, "ContextTooLarge")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
@pytest.mark.parametrize("moment", ["run ", "context: ", "container ", "cell 1"])
def test_an_interrupt_at_any_point_leaves_nothing(
    program: Program,
    engine: docker.APIClient,
    script: Script,
    text: str,
    number: signal.Signals,
    status: int,
    moment: str,
) -> None:
    """While the container starts, the kernel does, a cell runs: each ends with the status and without a traceback."""
    model = script("import time\nfor _ in range(600): time.sleep(0.1)")
    process = program.start(*CLI, "--verbose", "--model", model, "--context", text, "why?")
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(moment):
            break
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (status, "")
    assert "Traceback" not in err
    assert containers_of(engine, process.pid) == []


def test_an_interrupt_while_standard_input_is_read_leaves_nothing(program: Program, script: Script) -> None:
    """Before anything is started, Ctrl-C only removes what was stored of the context."""
    process = program.start(*CLI, "--model", script("x = 1"), "why?", stdin=-1)
    assert process.stdin is not None
    process.stdin.write("x" * 3_000_000)
    process.stdin.flush()
    store = program.state / "rlm_kernel" / "contexts"
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert [entry.name for entry in store.iterdir()] == ["known"]
