"""Forks of a recorded session, on the real engine: from any turn, with other models and other questions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from rlm_kernel import RLM, Settings
from rlm_kernel.errors import ConfigError, NotResumable, StateDiverged
from rlm_kernel.events import ModelFailed, Notice, QuestionFailed, WentLive
from rlm_kernel.recording import EVENTS_FILE, Recording
from rlm_kernel.recording.bundle.pack import Packing, write_bundle
from rlm_kernel.recording.folder import is_run_id
from tests.docker.test_rlm import settings
from tests.support.led import Led
from tests.support.provider_server import ProviderServer

__all__ = ["settings"]

CELLS = {
    "First?": ["x = int(llm_query('4'))", "x += 1", "FINAL(x)"],
    "Second?": ["y = x * 10", "FINAL(f'{y} {llm_query(\"end\")}')"],
    "Next?": ["try: llm_query(context)\nexcept LLMQueryError: pass", "FINAL(2)"],
    "Third?": ["FINAL(f'{x} ' + str('y' in globals()))"],
    "Shown?": ["print(context)\n```\n\n```repl\nobject()\n```\n\n```repl\nimport os\nprint(os.urandom(9))", "FINAL(1)"],
    "Other?": ["if context != 'context': 1 / 0", "told = llm_query(context)\nz = 1", "FINAL(z)"],
}


@pytest.fixture
async def led(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Led]:
    """A provider for every test."""
    led = Led(CELLS)
    async with ProviderServer(led).run() as server:
        monkeypatch.setenv("VLLM_BASE_URL", f"{server.url}/v1")
        yield led


@pytest.fixture
def own(settings: Settings) -> Settings:
    """The settings of all runs."""
    return replace(settings, model="vllm:m", sub_model="vllm:s", tool_calling="off")


async def two_questions(own: Settings) -> Path:
    """Record a session of two questions, and return its folder."""
    async with RLM(settings=own) as rlm, rlm.session("context") as session:
        first = await session.ask("First?")
        second = await session.ask("Second?")
    assert (first.answer, second.answer) == ("5", "50 END")
    return second.recording


def fingerprint(folder: Path) -> dict[str, str]:
    """Return the digest of every file in `folder`."""
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


async def test_a_fork_goes_on_from_any_turn(own: Settings, led: Led, tmp_path: Path) -> None:
    """In the first question, in the second, with another question, after all, and from a fork's bundle.

    Other models answer only what comes after it, and the old recordings are as they were.
    """
    folder = await two_questions(own)
    before = fingerprint(folder)
    asked, led.models = len(led.models), []
    assert asked == 7
    async with RLM(settings=replace(own, model="vllm:other", sub_model="vllm:s2")) as rlm:
        at_two = await rlm.afork(folder, 2)
        assert (at_two.answer, led.models) == ("5", [("other", "First? 3")])
        led.models.clear()
        at_four = await rlm.afork(folder.name, 4)
        assert (at_four.answer, led.models) == ("50 END", [("other", "Second? 2"), ("s2", "end")])
        led.models.clear()
        next_one = await rlm.afork(folder, 3)
        assert (next_one.answer, led.models) == (
            "50 END",
            [("other", "Second? 1"), ("other", "Second? 2"), ("s2", "end")],
        )
        led.models.clear()
        third = await rlm.afork(folder, 3, "Third?")
        assert (third.answer, led.models) == ("5 False", [("other", "Third? 1")])
        led.models.clear()
        after_all = await rlm.afork(folder, question="Third?")
        assert after_all.answer == "5 True"
        with (tmp_path / "third.tar.zst").open("wb") as file:
            write_bundle(third.recording / EVENTS_FILE, file, Packing(store=own.state_dir / "contexts"))
        of_fork = await rlm.afork(tmp_path / "third.tar.zst", question="Third?")
        assert of_fork.answer == "5 False"
    assert fingerprint(folder) == before
    assert all(is_run_id(each.name) for each in own.runs_dir.iterdir())
    with Recording(of_fork.recording / "events.jsonl") as recording:
        origin = recording.started.origin
        assert origin is not None
        assert (origin.how, origin.run, origin.turn) == ("fork", third.run, None)
        assert origin.usage == {}
        went = [record.event for record in recording.records() if isinstance(record.event, WentLive)]
        assert [(each.turn, each.cells, each.differences) for each in went] == [(5, 4, [])]


async def test_another_question_ends_the_one_that_it_cuts(own: Settings, led: Led) -> None:
    """There without a further turn or request, and says so; the recording tells what was taken, and replays."""
    folder = await two_questions(own)
    led.models.clear()
    async with RLM(settings=own) as rlm:
        instead = await rlm.afork(folder, 1, "Third?")
        assert (instead.answer, led.models) == ("4 False", [("m", "Third? 1")])
        again = await rlm.areplay(str(instead.recording))
    assert not again.differs
    assert [answer.outcome for answer in again.comparison.answers] == ["unfinished", "identical"]
    with Recording(instead.recording / "events.jsonl") as recording, Recording(folder / "events.jsonl") as of:
        assert [(len(each.turns), len(each.turns[0].asked)) for each in recording.root.questions] == [(1, 1), (1, 1)]
        ended = recording.expect(recording.root.questions[0].ended or 0, QuestionFailed)
        assert ended.error == "RecordingEnded"
        assert not [record for record in recording.records() if isinstance(record.event, ModelFailed)]
        origin = recording.started.origin
        assert origin is not None
        cut = of.root.questions[0].turns[1].started
        assert (origin.records, origin.head) == (cut, sha256(of.line(cut - 1)).hexdigest())


async def test_what_was_cut_off_in_a_cell_is_not_gone_on_with_for_another_question(own: Settings, led: Led) -> None:
    """The cell that had no end asks what it had no answer to; its question's model is asked for nothing more."""
    folder = await two_questions(own)
    lines = (folder / "events.jsonl").read_bytes().splitlines(keepends=True)
    with Recording(folder / "events.jsonl") as recording:
        (call,) = recording.root.cells[1].calls
    cut = folder.parent.parent / "cut.jsonl"
    cut.write_bytes(b"".join(lines[: call.requested + 1]))
    led.models.clear()
    async with RLM(settings=own) as rlm:
        asked = await rlm.afork(cut, question="Third?")
    assert (asked.answer, led.models) == ("4 False", [("s", "4"), ("m", "Third? 1")])


async def test_what_can_not_be_forked_is_said(own: Settings, led: Led) -> None:
    """A turn that there is not, an answer that is there, a run that has ended: each names the way out."""
    folder = await two_questions(own)
    async with RLM(settings=own) as rlm:
        with pytest.raises(ConfigError, match="no turn 6: it has the turns 1 to 5"):
            await rlm.afork(folder, 6)
        with pytest.raises(ConfigError, match="has given its answer in turn 5"):
            await rlm.afork(folder)
        with pytest.raises(NotResumable, match="has its answer"):
            await rlm.aresume(folder)
    assert len(list((own.state_dir / "runs").iterdir())) == 1


async def test_a_state_that_is_not_as_it_was_ends_the_run(own: Settings, led: Led) -> None:
    """A cell that ends otherwise, and a call that was never made, are named, and no model is asked; `anyway` goes on,
    and what is not as recorded is in the new recording."""
    async with RLM(settings=own) as rlm:
        run = await rlm.acompletion("Other?", "context")
        assert run.answer == "1"
        asked = led.asked.total()
        with pytest.raises(StateDiverged, match=r"cell 1 ended with ZeroDivisionError, not ok.*--anyway"):
            await rlm.afork(run.recording, 2, context="changed")
        assert led.asked.total() == asked
        anyway = await rlm.afork(run.recording, 2, context="changed", anyway=True)
        assert anyway.answer == "1"
        assert led.asked["changed"] == 1
    with Recording(anyway.recording / "events.jsonl") as recording:
        events = [record.event for record in recording.records()]
    notices = [event.message for event in events if isinstance(event, Notice)]
    assert any("the context 'context' is another one: 7 bytes, SHA-256" in notice for notice in notices)
    assert any("cell 2 made a call that is not in the recording" in notice for notice in notices)
    (went,) = (event for event in events if isinstance(event, WentLive))
    assert went.differences == ["cell 1 ended with ZeroDivisionError, not ok"]


async def test_what_a_cell_shows_is_compared(own: Settings, led: Led) -> None:
    """What is another text is named, what may differ is not, and what cells read says why a text varies."""
    async with RLM(settings=own) as rlm:
        run = await rlm.acompletion("Shown?", "context")
        forked = await rlm.afork(run.recording, 1, context="changed")
    with Recording(forked.recording / "events.jsonl") as recording:
        (went,) = (each.event for each in recording.records() if isinstance(each.event, WentLive))
    assert went.differences == ["cell 1: stdout", "cell 3: stdout, as it reads urandom"]


async def test_a_call_that_was_never_made_is_not_paid_for(own: Settings, led: Led) -> None:
    """In a cell that had its end, a call that is not on the tape fails, and the run with it."""
    async with RLM(settings=own) as rlm:
        run = await rlm.acompletion("Next?", "context")
        asked = led.asked.total()
        with pytest.raises(StateDiverged, match=r"cell 1 made a call that is not in the recording.*'changed'"):
            await rlm.afork(run.recording, 1, context="changed")
        assert led.asked.total() == asked
