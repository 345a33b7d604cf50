"""Jobs of plain calls: in order, each with the results before it, and all of it checked before the first."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rlm_kernel import NodeResult, arun_job, run_job
from rlm_kernel.assembly.jobs import PLAIN_TOKENS, open_job
from rlm_kernel.cli.commands import cli, main
from rlm_kernel.config.job import read_job
from rlm_kernel.errors import (
    BudgetExceeded,
    ConfigError,
    ContextUnreadable,
    MissingKey,
    NodeFailed,
    RlmKernelError,
    UnknownModel,
)
from rlm_kernel.events import ModelRequested, RunFinished
from rlm_kernel.recording import read_events
from rlm_kernel.recording.history import History
from tests.support.sinks import Events

Write = Callable[..., Path]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state folder."""
    monkeypatch.setenv("RLM_KERNEL_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def write(tmp_path: Path, state: Path) -> Write:
    """A function that writes a job of plain calls, one for each reply, and returns its path; `changes` are by id.

    A node without a reply fails when it is asked.
    """

    def write(*replies: str | None, **changes: dict[str, Any]) -> Path:
        nodes: list[dict[str, Any]] = []
        for number, reply in enumerate(replies):
            (tmp_path / f"{number}.md").write_text(f"--- turn ---\n{reply}\n")
            fails = {"settings": {"max_input_tokens": 1}} if reply is None else {}
            nodes.append(
                {
                    "type": "ai_agent",
                    "id": f"n{number}",
                    "provider": "scripted",
                    "model": f"{number}.md",
                    "rlm_enabled": False,
                    "prompt": f"question {number}",
                    **fails,
                    **changes.get(f"n{number}", {}),
                }
            )
        path = tmp_path / "job.json"
        path.write_text(json.dumps({"nodes": nodes}))
        return path

    return write


def asked(events: Events) -> list[str]:
    """Return the prompts of a job's plain calls."""
    return [event.messages[0].content for event in events.of(ModelRequested)]


async def test_each_node_has_the_results_before_it(write: Write, tmp_path: Path) -> None:
    """A prompt names an answer, a context holds answers, and without either all answers so far are in the prompt."""
    (tmp_path / "text.txt").write_text("the text")
    job = write(
        "A",
        "B",
        "C",
        "D",
        n0={"context": "text.txt"},
        n1={"prompt": "about {{nodes.n0.answer}}"},
        n2={"context": {"nodes": ["n1"]}},
        n3={"contexts": {"data": {"value": [1]}, "text": {"path": "text.txt"}}},
    )
    events = Events()
    results = await arun_job(job, on_event=events)
    assert [(each.node, each.result.answer) for each in results] == [("n0", "A"), ("n1", "B"), ("n2", "C"), ("n3", "D")]
    assert asked(events) == [
        "question 0\n\nthe text",
        "about A",
        "question 2\n\nn1:\n\nB",
        "question 3\n\ndata:\n\n[1]\n\ntext:\n\nthe text",
    ]
    events = Events()
    await arun_job(write("A", "B", "C"), on_event=events)
    assert asked(events)[2] == "question 2\n\nn0:\n\nA\n\nn1:\n\nB"


async def test_a_plain_call_is_a_run_with_a_recording(write: Write, state: Path) -> None:
    """All that happened is written down, unless it is not to be kept."""
    job = write("A", "B", n1={"rlm_config": {"enable_trajectory_logging": False}})
    kept, gone = (each.result for each in await arun_job(job))
    (finished,) = [
        each.event for each in read_events(kept.recording / "events.jsonl") if isinstance(each.event, RunFinished)
    ]
    assert (finished.status, finished.answer) == ("answered", "A")
    assert kept.usage[f"scripted:{job.parent / '0.md'}"].calls == 1
    assert not gone.recording.exists()
    assert list((state / "runs").iterdir()) == [kept.recording]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"provider": "nobody"}, UnknownModel, r"nodes\[1\]: the model .* has an unknown provider"),
        ({"provider": "openai", "model": "gpt-5"}, MissingKey, r"nodes\[1\]: .*OPENAI_API_KEY"),
        ({"rlm_enabled": True, "contexts": {"class": {"value": 1}}}, ConfigError, r"nodes\[1\]: .*class"),
        ({"context": {"value": "word " * PLAIN_TOKENS}}, ConfigError, r"nodes\[1\]: .*too many for one plain call"),
        ({"context": "folder"}, ContextUnreadable, r"nodes\[1\]: .*is a folder, and a plain call takes a text"),
        ({"context": "binary"}, ContextUnreadable, r"nodes\[1\]: .*can't be read as text"),
        ({"context": {"value": "word " * 2000}, "settings": {"model_window": 2000}}, ConfigError, "which takes 1,500"),
        (
            {"rlm_enabled": True, "settings": {"profile": "nobody"}},
            ConfigError,
            r"nodes\[1\]: there is no profile 'nob",
        ),
        ({"rlm_enabled": True, "answer_schema": {"type": "nothing"}}, ConfigError, r"nodes\[1\]: .*schema"),
        ({"context": "long"}, ConfigError, r"nodes\[1\]: .*too long for one plain call"),
        ({"settings": {"max_turns": 0}}, ConfigError, r"nodes\[1\].settings.max_turns must be at least 1"),
        ({"settings": {"uid_first": 5000}}, ConfigError, "is the machine's own"),
    ],
)
async def test_all_of_a_job_is_checked_before_it_begins(
    write: Write,
    state: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    error: type[RlmKernelError],
    message: str,
) -> None:
    """What is wrong with the second node keeps the first from being asked."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary").write_bytes(b"\xff\x00")
    (tmp_path / "long").write_text("x" * (8 * PLAIN_TOKENS + 1))
    events = Events()
    with pytest.raises(error, match=message):
        await arun_job(write("A", "B", n1=change), on_event=events)
    assert events.of(ModelRequested) == []
    assert not (state / "runs").exists()


async def test_a_job_of_many_nodes_is_checked_soon(write: Write) -> None:
    """Models that many nodes share are looked at once: hundreds of nodes take a moment."""
    job = json.loads(write("A").read_text())
    nodes = [
        {**job["nodes"][0], "id": f"n{number}", "model": str(write("A").with_name("0.md"))} for number in range(200)
    ]
    started = time.process_time()
    assert len((await open_job({"nodes": nodes}, root=Path("/"))).nodes) == 200
    assert time.process_time() - started < 10


def test_the_examples_are_jobs() -> None:
    """What lies in examples/jobs can be read."""
    folder = Path(__file__).parents[3] / "examples" / "jobs"
    assert {path.name: len(read_job(path).nodes) for path in folder.iterdir() if path.suffix in (".json", ".yaml")} == {
        "one_question.json": 1,
        "two_questions.yaml": 2,
    }


async def test_a_failure_keeps_the_results_before_it(write: Write) -> None:
    """The error names the node, says why, and holds what the nodes before it came to; none after it is asked."""
    events = Events()
    with pytest.raises(NodeFailed, match="the node 'n1' failed: ") as caught:
        await arun_job(write("A", None, "C"), on_event=events)
    assert [each.result.answer for each in caught.value.results] == ["A"]
    assert isinstance(caught.value.cause, BudgetExceeded)
    assert len(asked(events)) <= 2


async def test_a_cancel_takes_no_earlier_result_away(write: Write) -> None:
    """Who is told of results as they come has them, however the job ends."""
    told: list[str] = []

    def take(each: NodeResult) -> None:
        told.append(each.result.answer)
        if each.node == "n1":
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await arun_job(write("A", "B", "C"), on_result=take)
    assert told == ["A", "B"]


async def test_a_plain_call_has_its_whole_budget(write: Write) -> None:
    """Nothing is kept back for a best answer, for which it is never asked."""
    events = Events()
    await arun_job(write("A", n0={"settings": {"max_output_tokens": 300}}), on_event=events)
    await arun_job(write("A", n0={"rlm_config": {"max_total_tokens": 300}, "prompt": "a"}), on_event=events)
    assert [event.answer for event in events.of(RunFinished)] == ["A", "A"]


async def test_a_plain_call_needs_no_key_of_a_sub_model(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks no sub-model, so one that the job names for other nodes is not looked at."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    job = {"settings": {"sub_model": "openai:gpt-5-mini"}, **json.loads(write("A").read_text())}
    (path := write("A")).write_text(json.dumps(job))
    assert [each.result.answer for each in await arun_job(path)] == ["A"]


async def test_plain_calls_are_compared_with_each_other(write: Write, state: Path) -> None:
    """What a plain call used is kept for later ones, apart from what sessions of the same models use."""
    job = write("A")
    await arun_job(job)
    model = f"scripted:{job.parent / '0.md'}"
    assert [run.model for run in History(state).like(model, "")] == [model]
    assert History(state).like(model, model) == []


async def test_answers_that_make_a_prompt_too_long_are_refused(write: Write) -> None:
    """What earlier nodes answered can't be known before; a call that would be too long is not made."""
    job = write("word " * PLAIN_TOKENS, "B")
    events = Events()
    with pytest.raises(NodeFailed, match="too many for one plain call") as caught:
        await arun_job(job, on_event=events)
    assert len(caught.value.results) == len(asked(events)) == 1


async def test_a_job_runs_from_code_of_either_kind(write: Write) -> None:
    """`run_job` works inside a running event loop too, and options go before the job."""
    job = write("A")
    (job.parent / "other.md").write_text("--- turn ---\nother\n")
    results = run_job(job, options={"model": f"scripted:{job.parent / 'other.md'}"})
    assert [each.result.answer for each in results] == ["other"]
    assert [each.result.answer for each in await asyncio.to_thread(run_job, job)] == ["A"]


def command(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run the command line and return its status and what it wrote."""
    with pytest.raises(SystemExit) as ended:
        main(["run", *arguments])
    out, err = capfd.readouterr()
    return int(ended.value.code or 0), out, err


def test_the_command_line_runs_a_job(write: Write, capfd: pytest.CaptureFixture[str]) -> None:
    """Each answer is on standard output under its node's name; of a single node there is the answer alone."""
    status, out, err = command(capfd, str(write("A", "B")))
    assert (status, out) == (0, "=== n0 ===\nA\n=== n1 ===\nB\n")
    assert "node 2 of 2: n1" in err
    assert command(capfd, "--quiet", str(write("A"))) == (0, "A\n", "")


def test_json_is_a_list_of_results(write: Write, capfd: pytest.CaptureFixture[str]) -> None:
    """`--json` writes one list; a failed node is the last in it, and the status is that of its error."""
    status, out, err = command(capfd, "--json", str(write("A", None, "C")))
    first, failed = json.loads(out)
    assert (first["node"], first["answer"], first["status"]) == ("n0", "A", "answered")
    assert (failed["node"], failed["error"], failed["exit_status"]) == ("n1", "BudgetExceeded", status)
    assert (status, err) == (42, "")


def test_a_failed_node_leaves_the_answers_before_it(write: Write, capfd: pytest.CaptureFixture[str]) -> None:
    """What was answered is written, then what failed is told."""
    status, out, err = command(capfd, "--quiet", str(write("A", None)))
    assert (status, out) == (42, "=== n0 ===\nA\n")
    assert err.startswith("rlm-kernel: the node 'n1' failed: ")


def test_a_broken_job_is_told_as_any_bad_input(write: Write, capfd: pytest.CaptureFixture[str]) -> None:
    """The message names file and place, as text or as JSON."""
    path = write("A", n0={"promt": "x"})
    status, out, err = command(capfd, str(path))
    assert (status, out) == (2, "")
    assert f"{path}: nodes[0].promt means nothing; did you mean prompt?" in err
    assert json.loads(command(capfd, "--json", str(path))[1])["error"] == "ConfigError"


def test_with_a_context_a_files_name_is_a_question(write: Write, tmp_path: Path) -> None:
    """Only without `--context` is a file that is there a job; `--root` is for jobs alone."""
    path = write("A")
    run = CliRunner().invoke(
        cli, ["run", "--model", f"scripted:{tmp_path / '0.md'}", "--context", str(tmp_path / "nope"), str(path)]
    )
    assert isinstance(run.exception, RlmKernelError)
    assert "nope" in str(run.exception)
    run = CliRunner().invoke(cli, ["run", "--skip-binary", str(path)])
    assert "--skip-binary is for a --context" in run.output
    run = CliRunner().invoke(cli, ["run", "--root", "/", "--context", str(path), "what?"])
    assert "--root is for a job's file alone" in run.output
