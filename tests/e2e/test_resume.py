"""Runs that are killed again and again, and resumed: nothing that was answered is asked twice."""

from __future__ import annotations

import asyncio
import itertools
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import docker
import pytest

from rlm_kernel.events import CellOutput, SubcallReplied, WentLive
from rlm_kernel.recording import Recording, used_by
from tests.e2e.conftest import Program, containers_of
from tests.support.ended import Ended
from tests.support.led import Led
from tests.support.provider_server import ProviderServer

DEADLINE = 60.0
CELLS = {
    "What is it?": [
        "import random, time\nseed = random.random()\nprint('begun', seed)",
        "answers = llm_query_batched([f'question {n}' for n in range(50)])",
        "llm_query('now in the cell')\ntime.sleep(1.5)\nslept = True",
        "below = rlm_query('How many below?')",
        "FINAL(f'{len(set(answers))} {answers[7]} {slept} {below} {seed}')",
    ],
    "How many below?": ["n = len(llm_query('from below'))", "FINAL(n)"],
}


def fingerprint(folder: Path) -> dict[str, str]:
    """Return the digest of every file below `folder`."""
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def recorded(path: Path | None, kind: type[Any]) -> list[Any]:
    """Return the events of `kind` that a recording has by now."""
    if path is None or not path.stat().st_size:
        return []
    with Recording(path) as recording:
        return [record.event for record in recording.records() if isinstance(record.event, kind)]


@dataclass
class Killed:
    """Runs of one program that are killed and resumed; `led` is their provider, `given` what the first is run with."""

    program: Program
    engine: docker.APIClient
    led: Led
    given: Sequence[str]
    seen: set[Path] = field(default_factory=set)

    @property
    def state(self) -> Path:
        """The state folder."""
        return self.program.state / "rlm_kernel"

    def recordings(self) -> list[Path]:
        """Return all recordings, in the order in which they were begun."""
        return sorted(self.state.glob("runs/*/events.jsonl"), key=lambda path: path.parent.stat().st_mtime_ns)

    @property
    def newest(self) -> Path | None:
        """The recording of the run that goes on, None before it is begun."""
        return next((path for path in self.recordings() if path not in self.seen), None)

    @property
    def since_start(self) -> set[Path]:
        """The recordings that were begun since the last start."""
        return {*self.recordings()} - self.seen

    def has(self, kind: type[Any], least: int) -> bool:
        """Tell whether the run that goes on has so many events of a kind."""
        return len(recorded(self.newest, kind)) >= least

    def start(self, *, anew: bool = False) -> subprocess.Popen[str]:
        """Resume the last run, or begin one if there is none or it is to be `anew`."""
        recordings = self.recordings()
        self.seen.update(recordings)
        resumes = bool(recordings) and not anew
        command = ["resume", str(recordings[-1])] if resumes else ["run", *self.given, "What is it?"]
        return self.program.start("-m", "rlm_kernel", *command)

    async def cut_off(self, process: subprocess.Popen[str]) -> None:
        """Kill a run's host, and wait until its containers have ended."""
        process.kill()
        assert await asyncio.to_thread(process.wait) == -signal.SIGKILL
        deadline = time.monotonic() + DEADLINE
        while containers_of(self.engine, process.pid):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)

    async def cut_off_when(
        self, condition: Callable[[], bool], waits: Callable[[str], bool] = lambda key: False
    ) -> Path:
        """Start a run, kill it when something holds, and return its recording; `waits` is its provider's."""
        self.led.waits = waits
        process = self.start()
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        path = self.newest
        assert path is not None
        await self.cut_off(process)
        return path

    async def ended(self, *more: str) -> Ended:
        """Resume the last run up to its end."""
        self.led.waits = lambda key: False
        command = ["resume", str(self.recordings()[-1]), *more]
        return await asyncio.to_thread(self.program.run, "-m", "rlm_kernel", *command)


@pytest.fixture
async def killed(
    program: Program, engine: docker.APIClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Killed]:
    """Runs with a provider of their own."""
    context = tmp_path / "context.txt"
    context.write_text("banana")
    led = Led(CELLS)
    given = ["--model", "vllm:m", "--tool-calling", "off", "--max-subcalls", "60", "--context", str(context)]
    async with ProviderServer(led).run() as server:
        monkeypatch.setenv("VLLM_BASE_URL", f"{server.url}/v1")
        yield Killed(program, engine, led, given)


async def test_a_run_that_is_killed_four_times_pays_once(killed: Killed) -> None:
    """In a root request, during 50 sub-calls, in a cell, in a session below, with a torn line: each resumed run goes on
    from the one before, has its state, asks for no answer that is recorded, and changes nothing in the old folder."""
    led, late = killed.led, {f"question {number}" for number in range(20, 50)}
    turn, below = "What is it? 2", "How many below? 2"
    first = await killed.cut_off_when(lambda: led.asked[turn] == 1, turn.__eq__)
    with first.open("ab") as file:
        file.write(b'{"v":2,"seq":')
    before = fingerprint(killed.state / "runs")
    await killed.cut_off_when(lambda: len(led.asked) >= 52 and killed.has(SubcallReplied, 20), late.__contains__)
    await killed.cut_off_when(lambda: killed.has(SubcallReplied, 51))
    await killed.cut_off_when(lambda: led.asked[below] == 1, below.__eq__)
    ended = await killed.ended("--json")
    assert ended.status == 0, ended.out + ended.err

    (begun,) = recorded(first, CellOutput)
    assert ended.json["answer"] == f"50 QUESTION 7 True 10 {begun.output['text'].split()[1]}"
    twice = {turn, below, *late}
    assert led.asked == {key: 1 + (key in twice) for key in led.asked}
    assert before.items() <= fingerprint(killed.state / "runs").items()
    assert list((killed.state / "sessions").iterdir()) == []
    assert_each_goes_on_from_the_one_before(killed.recordings())
    with Recording(killed.recordings()[-1]) as last:
        used = used_by(last)
    # Seven turns and 52 prompts were paid for, each once; the session below is a sub-call too.
    assert (used.total.calls, used.subcalls) == (59, 53)
    before, since = (sum(each["calls"] for each in ended.json[name].values()) for name in ("before", "usage"))
    assert 0 < since < before == 59 - since, ended.json
    told = await killed.ended()
    assert told.status == 63
    assert "has its answer" in told.err


def assert_each_goes_on_from_the_one_before(recordings: list[Path]) -> None:
    """Each names the run that it is from, and that run's last line; its cells gave what they had given."""
    for earlier, later in itertools.pairwise(recordings):
        with Recording(earlier) as one, Recording(later) as two:
            origin = two.started.origin
            assert origin is not None
            assert (origin.how, origin.run, origin.head) == ("resume", one.started.run, one.head)
            assert origin.records == len(one)
            assert [event.differences for event in recorded(later, WentLive)][:1] == [[]]
