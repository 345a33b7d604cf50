"""`rlm-kernel run job.yaml` from a file to answers out of containers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import Program

CLI = ("-m", "rlm_kernel", "run")
COUNT = "--- turn ---\n```repl\nlines = chunk(context, size=4)\nFINAL({'lines': len(lines)})\n```\n"
USE = "--- turn ---\n```repl\nFINAL(f\"{context['count']['lines'] + 1} of {SHOW_VARS()}\")\n```\n"
JOB = """
settings: {memory: 512m}
nodes:
  - {type: ai_agent, id: count, provider: scripted, model: count.md, prompt: "How many?", context: text.txt,
     rlm_config: {default_chunk_strategy: lines, enable_trajectory_logging: false},
     answer_schema: {type: object, properties: {lines: {type: integer}}, required: [lines]}}
  - {type: ai_agent, id: use, provider: scripted, model: use.md, prompt: "What of {{nodes.count.answer}}?"}
"""


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job of two nodes, each in a container of its own."""
    (tmp_path / "text.txt").write_text("a 1\nb 2\nc 3\n")
    (tmp_path / "count.md").write_text(COUNT)
    (tmp_path / "use.md").write_text(USE)
    path = tmp_path / "job.yaml"
    path.write_text(JOB)
    return path


def test_a_job_of_two_nodes(program: Program, job: Path) -> None:
    """The second session has the first one's answer as its context, and in its question; settings reach the cells."""
    ended = program.run(*CLI, "--json", str(job))
    assert (ended.status, ended.err) == (0, "")
    first, second = json.loads(ended.out)
    assert (first["node"], first["answer"], first["recording"]) == ("count", '{"lines": 3}', None)
    assert (second["node"], second["answer"]) == ("use", "4 of {}")
    lines = (Path(second["recording"]) / "events.jsonl").read_text().splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert (events[0]["question"], events[0]["settings"]["memory"]) == ('What of {"lines": 3}?', 512 * 2**20)


def test_a_session_that_fails_leaves_the_answer_before_it(program: Program, job: Path) -> None:
    """The first answer is there, the status is the failure's, and nothing of either session stays."""
    (job.parent / "use.md").write_text("--- turn ---\nI can't.\n")
    ended = program.run(*CLI, "--quiet", str(job))
    assert (ended.status, ended.out) == (34, '=== count ===\n{"lines": 3}\n')
    assert "the node 'use' failed" in ended.err


def test_the_example_of_a_job(program: Program) -> None:
    """The job that the README names runs without a key."""
    ended = program.run(*CLI, "--quiet", "examples/jobs/two_questions.yaml")
    assert (ended.status, ended.out) == (
        0,
        "=== sales ===\nLima\n=== letter ===\nWell done, best of all our shops: thank you!\n",
    )
