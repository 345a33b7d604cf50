"""What is done with a recording of 100,000 events: processor time and memory of commands, against reading its file."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import Row, Samples
from benchmarks.stage import Stage
from rlm_kernel import events as ev
from rlm_kernel.recording import RecordingLog, new_run_id
from rlm_kernel.types import JSON, Message, Usage

EVENTS, TURNS, ROUNDS = 100_000, 200, 3
RUNS = 1_000
"""Runs that are listed, each of some events, beside the large one."""
MODEL = "openai:gpt-5"
WORDS = [
    "the",
    "of",
    "and",
    "letter",
    "in",
    "a",
    "was",
    "that",
    "for",
    "written",
    "by",
    "somebody",
    "not",
    "contradicts",
]
USED = Usage(calls=1, input_tokens=900, output_tokens=120, cost_usd=0.0004)

LAUNCH = """
import os, sys
null = os.open(os.devnull, os.O_WRONLY)
files = [(os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)]
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=files)
_, status, used = os.wait4(child, 0)
print(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, os.waitstatus_to_exitcode(status))
"""
"""A small process that starts the measured one: a peak of memory is never less than that of who started it."""
READ = "import sys\nfor line in open(sys.argv[1], 'rb'): pass"
INDEX = "import sys; from pathlib import Path; from rlm_kernel.recording import Recording; Recording(Path(sys.argv[1]))"


def large_recording(state_dir: Path, count: int = EVENTS, turns: int = TURNS) -> Path:
    """Write a recording of about `count` events of the sizes that they have in life, and return its file."""
    run = new_run_id()
    with RecordingLog(state_dir, run) as log:
        for event in _events(run, count, turns):
            log.emit(event)
    return log.path


def many_recordings(state_dir: Path, runs: int = RUNS) -> None:
    """Write `runs` recordings of some dozen events, and a large one."""
    for _ in range(runs):
        large_recording(state_dir, count=40, turns=1)
    large_recording(state_dir)


def _events(run: str, count: int, turns: int) -> Iterator[ev.AnyEvent]:
    chance = random.Random(0)
    question = "Which of the letters contradict each other, and in what?"
    yield ev.RunStarted(
        run=run, question=question, model=MODEL, sub_model=MODEL, package_version="0", python_version="3"
    )
    yield ev.ContextStored(digest="0" * 64, kind="str", size=10**9, source="letters")
    yield ev.QuestionAsked(ask=1, question=question)
    history, new = 0, [Message("system", _text(chance, 800)), Message("user", question)]
    calls = (count // turns - 9) // 2
    for turn in range(1, turns + 1):
        code = f"answers = llm_query_batched([...])  # {_text(chance, 60)}"
        reply = f"{_text(chance, 80)}\n\n```repl\n{code}\n```"
        yield ev.TurnStarted(turn=turn)
        yield ev.ModelRequested(call=f"m{turn}", model=MODEL, history=history, messages=new)
        yield ev.ModelReplied(
            call=f"m{turn}",
            text=reply,
            finish_reason="stop",
            usage=USED,
            seconds=4.0,
            attempts=1,
            served_by=MODEL,
        )
        yield ev.CellStarted(cell=turn, turn=turn, code=code)
        for number in range(calls):
            yield from _call(chance, turn, f"s{turn * calls + number}")
        shown = _text(chance, 700)
        for _ in range(3):
            yield ev.CellOutput(cell=turn, output=_printed(shown))
        yield ev.CellFinished(cell=turn, status="ok", seconds=9.0, execution_count=turn)
        history += len(new)
        new = [Message("assistant", reply), Message("user", shown)]
    yield ev.AnswerGiven(answer="none", source="FINAL")
    yield ev.RunFinished(status="answered", answer="none", seconds=900.0, turns=turns, usage={MODEL: USED})


def _call(chance: random.Random, cell: int, call: str) -> Iterator[ev.AnyEvent]:
    yield ev.SubcallRequested(call=call, cell=cell, model=MODEL, prompt=_text(chance, 300))
    yield ev.SubcallReplied(
        call=call,
        text=_text(chance, 60),
        finish_reason="stop",
        usage=USED,
        seconds=1.2,
        attempts=1,
        served_by=MODEL,
        reply_id=f"resp-{call}",
    )


def _text(chance: random.Random, words: int) -> str:
    return " ".join(chance.choices(WORDS, k=words))


def _printed(text: str) -> dict[str, JSON]:
    return {"output_type": "stream", "name": "stdout", "text": text}


@dataclass(frozen=True, slots=True)
class _Taken:
    """What a process took, in seconds of processor time and, at its peak, bytes."""

    seconds: float
    memory: float


def _took(arguments: Sequence[str]) -> _Taken:
    """Run this interpreter with `arguments` and return what it took. Raise `RuntimeError` if it fails."""
    command = [sys.executable, "-I", "-S", "-c", LAUNCH, sys.executable, *arguments]
    told = subprocess.run(command, stdout=subprocess.PIPE, check=True, env={**os.environ, "COLUMNS": "120"}).stdout
    seconds, memory, status = map(float, told.split())
    if status:
        raise RuntimeError(f"{' '.join(arguments)} ended with {status:.0f}")
    return _Taken(seconds, memory)


def _commands(path: Path, state_dir: Path) -> dict[str, list[str]]:
    kernel, state = ["-m", "rlm_kernel"], ["--state-dir", str(state_dir)]
    export = [*kernel, "export", str(path), *state, "-o", "-", "--to"]
    return {
        "opening the index": ["-c", INDEX, str(path)],
        "runs list": [*kernel, "runs", "list", *state],
        "runs compare": [*kernel, "runs", "compare", str(path), str(path), *state],
        "runs show": [*kernel, "runs", "show", str(path), *state],
        "export to md": [*export, "md"],
        "export to html": [*export, "html"],
        "export to ipynb": [*export, "ipynb"],
        "export to jsonl": [*export, "jsonl"],
        "export to chat, sessions": [*export, "chat"],
        "export to chat, sub-calls": [*export, "chat", "--level", "sub"],
    }


async def rows(stage: Stage) -> list[Row]:
    """Measure each command in a process of its own, in turn with a process that reads the file line by line."""
    state_dir = stage.folder / "large"
    path = large_recording(state_dir)
    many = stage.folder / "many"
    many_recordings(many)
    commands = {"reading": ["-c", READ, str(path)], **_commands(path, state_dir)}
    commands[f"runs list of {RUNS:,} runs and it"] = ["-m", "rlm_kernel", "runs", "list", "--state-dir", str(many)]
    taken: dict[str, list[_Taken]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, arguments in commands.items():
            taken[name].append(_took(arguments))
    seconds = {name: Samples(tuple(each.seconds for each in all_)) for name, all_ in taken.items()}
    memory = {name: Samples(tuple(each.memory for each in all_)) for name, all_ in taken.items()}
    about = f"{path.stat().st_size / 2**20:.0f} MiB"
    found = [
        Row(name=f"{name}, {about}", value=seconds[name], baseline=seconds["reading"], against="reading it")
        for name in commands
        if name != "reading"
    ]
    return found + [
        Row(
            name=f"{name}, peak memory",
            value=memory[name],
            unit="MiB",
            baseline=memory["reading"],
            against="reading it",
            compare="difference",
        )
        for name in commands
        if name != "reading"
    ]
