"""Conversations over several questions, with tools, after failures, and as they get too long."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest

from rlm_kernel.controller import ContextSummary, Controller, ControllerLimits
from rlm_kernel.controller.profile import Profile, find_profile
from rlm_kernel.errors import ModelRejected, ModelUnavailable, NoAnswer, PromptTooLong, SandboxLost, ToolsRefused
from rlm_kernel.events import HistoryCompacted, ModelReplied, ModelRequested, Notice, ProfileChosen
from rlm_kernel.kernel.result import CellResult
from rlm_kernel.models.model import Completion
from rlm_kernel.types import JSON, Message, ToolCall, Usage
from tests.support.fakes import FakeCells, FakeModel, ListSink, Runner, SilentModel, Turn, cell_ok, completion

CONTEXT = ContextSummary(type_name="str", length=9, unit="characters", total_chars=9, preview="")
CELL = "```repl\nlook()\n```"
FENCES = find_profile("fake:model")
TOOLS = find_profile("anthropic:x")


def call(code: str, name: str = "c1", text: str = "") -> Completion:
    """Return a reply that calls the tool."""
    return replace(completion(text, "tool_calls"), tool_calls=(ToolCall(name, "python", f'{{"code": "{code}"}}'),))


class Talk:
    """A controller over fakes, and what it did."""

    def __init__(self, turns: list[Turn], profile: Profile = FENCES, run: Runner | None = None) -> None:
        self.model = FakeModel(turns)
        self.cells = FakeCells(run)
        self.sink = ListSink()
        self.controller = Controller(self.model, self.cells, self.sink, ControllerLimits(), profile)

    async def ask(self, question: str = "First?") -> str:
        return (await self.controller.answer(question, CONTEXT)).answer

    def sent(self, request: int) -> list[Message]:
        return list(self.model.requests[request].messages)

    def recorded(self) -> list[list[Message]]:
        """Return the requests as a reader of the recording makes them out."""
        requests: list[list[Message]] = [[]]
        for event in self.sink.events:
            if isinstance(event, ModelRequested):
                requests.append(requests[-1][: event.history] + event.messages)
        return requests[1:]


def adds_up(talk: Talk) -> bool:
    """Tell whether the recording gives every request exactly."""
    return talk.recorded() == [list(request.messages) for request in talk.model.requests]


async def test_a_second_question_continues_the_conversation() -> None:
    """Its request begins with all that was said before; turns and calls count on."""
    talk = Talk([CELL, "FINAL(one)", CELL, "FINAL(two)"])
    assert [await talk.ask(), await talk.ask("Second?")] == ["one", "two"]
    for before, after in pairwise(request.messages for request in talk.model.requests):
        assert after[: len(before)] == before
    assert "The next question" in talk.sent(2)[-1].content
    assert [turn for _, turn in talk.cells.ran] == [1, 3]
    assert adds_up(talk)


async def test_calls_are_answered_before_the_next_question() -> None:
    """Those of the reply that gave the answer, too: providers demand it."""
    talk = Talk([call("FINAL(1)"), call("x", "c2"), "FINAL(two)"], TOOLS, lambda code: cell_ok("out", final="1"))
    await talk.ask()
    await talk.ask("Second?")
    roles = [(message.role, message.tool_call_id) for message in talk.sent(1)]
    assert roles == [("system", None), ("user", None), ("assistant", None), ("tool", "c1"), ("user", None)]
    assert adds_up(talk)


async def test_calls_that_a_cancel_left_open_are_closed() -> None:
    """The next question goes on from there."""

    def lost(code: str) -> CellResult:
        raise SandboxLost("gone")

    talk = Talk([call("x"), "FINAL(two)"], TOOLS, lost)
    with pytest.raises(SandboxLost):
        await talk.ask()
    assert await talk.ask("Second?") == "two"
    assert [message.role for message in talk.sent(1)] == ["system", "user", "assistant", "tool", "user"]
    assert "the work was stopped" in talk.sent(1)[3].content
    assert "The work on the question before was stopped" in talk.sent(1)[4].content
    assert adds_up(talk)


async def test_a_question_after_a_failed_request_alternates_roles() -> None:
    """A request without a reply is followed by a word that there was none."""
    talk = Talk([CELL, ModelRejected("no"), "FINAL(two)"])
    with pytest.raises(ModelRejected):
        await talk.ask()
    assert await talk.ask("Second?") == "two"
    sent = talk.sent(2)
    assert sent[: len(talk.sent(1))] == talk.sent(1)
    assert [message.role for message in sent] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert adds_up(talk)


async def test_a_first_question_that_got_no_reply_is_not_asked_again() -> None:
    """The conversation begins with the next one."""
    talk = Talk([ModelUnavailable("down"), "FINAL(two)"])
    with pytest.raises(ModelUnavailable):
        await talk.ask()
    assert await talk.ask("Second?") == "two"
    assert len(talk.sent(1)) == 2
    assert "First?" not in talk.sent(1)[1].content
    assert adds_up(talk)


async def test_a_cancelled_question_may_be_followed_by_another() -> None:
    """What was asked in vain stays in the conversation, once the model has spoken."""
    model = SilentModel()
    sink = ListSink()
    controller = Controller(model, FakeCells(), sink, ControllerLimits())
    task = asyncio.ensure_future(controller.answer("?", CONTEXT))
    await model.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert model.cancelled


async def test_a_provider_without_tools_is_asked_for_fences() -> None:
    """Once, with a notice: the conversation begins anew with the other prompt."""
    talk = Talk([ToolsRefused("m: no tools here"), CELL, "FINAL(x)"], TOOLS)
    assert await talk.ask() == "x"
    assert talk.model.requests[0].tools
    assert not talk.model.requests[1].tools
    assert "```repl" in talk.sent(1)[0].content
    assert "```repl" not in talk.sent(0)[0].content
    chosen = [event.tools for event in talk.sink.events if isinstance(event, ProfileChosen)]
    assert chosen == [True, False]
    assert any("no tools here" in event.message for event in talk.sink.events if isinstance(event, Notice))
    assert adds_up(talk)


@pytest.mark.parametrize(
    ("turns", "profile"), [([ToolsRefused("no")], FENCES), ([call("x"), ToolsRefused("no")], TOOLS)]
)
async def test_other_refusals_of_tools_are_errors(turns: list[Turn], profile: Profile) -> None:
    """Without tools, or in the middle of a conversation, there is nothing to fall back to."""
    with pytest.raises(ToolsRefused):
        await Talk(turns, profile).ask()


async def test_a_model_that_refuses_twice_has_refused() -> None:
    """Its words are the error's, and never the answer."""
    talk = Talk([completion("I can't help with that.", "refusal")] * 2)
    with pytest.raises(NoAnswer, match=r"fake:model refused: I can't help with that\."):
        await talk.ask()


async def test_a_model_that_refuses_once_may_go_on() -> None:
    """Some refuse by mistake."""
    assert await Talk([completion("No.", "refusal"), "FINAL(x)"]).ask() == "x"


async def test_a_refusal_of_the_last_request_is_no_answer() -> None:
    """Plain text would be taken there, a refusal is not."""
    talk = Talk(["hm", "hm", "hm", completion("I won't.", "refusal")])
    with pytest.raises(NoAnswer, match="refused: I won't"):
        await talk.ask()


def wordless(reason: str) -> ModelRejected:
    """Return the error for a reply without a word."""
    error = ModelRejected("an empty reply")
    error.empty_for, error.usage = reason, Usage(calls=1, input_tokens=5, output_tokens=9)
    return error


async def test_a_reply_that_was_all_thought_up_to_its_limit_is_told() -> None:
    """The model may write a shorter one: the run does not end with it, and its usage is recorded."""
    talk = Talk([wordless("length"), "FINAL(x)"])
    assert await talk.ask() == "x"
    assert "Your reply was cut off" in talk.sent(1)[3].content
    (first, _) = (event for event in talk.sink.events if isinstance(event, ModelReplied))
    assert (first.text, first.finish_reason, first.usage.output_tokens) == ("", "length", 9)


async def test_replies_that_are_all_thought_end_with_the_way_out() -> None:
    """No reply has room for a word: it is said which limit to raise."""
    with pytest.raises(NoAnswer, match="--max-reply-tokens"):
        await Talk([wordless("length") for _ in range(4)]).ask()


async def test_a_refusal_without_a_word_is_a_refusal() -> None:
    """The model may reconsider once, as with words."""
    assert await Talk([wordless("refusal"), "FINAL(x)"]).ask() == "x"
    with pytest.raises(NoAnswer, match="refused: it gave no reason"):
        await Talk([wordless("refusal"), wordless("content_filter")]).ask()


async def test_thinking_in_a_reply_is_recorded_and_not_sent_back() -> None:
    """What follows it is the message."""
    talk = Talk(["<think>\nhm\n</think>\nI look.\n" + CELL, "FINAL(x)"])
    await talk.ask()
    assert talk.sent(1)[2].content == "I look.\n" + CELL


async def test_reasoning_goes_back_as_it_came() -> None:
    """The conversation does not look into it."""
    reasoning: JSON = [{"type": "thinking", "thinking": "hm", "signature": "x"}]
    talk = Talk([replace(call("x"), reasoning=reasoning), "FINAL(x)"], TOOLS)
    await talk.ask()
    assert talk.sent(1)[2].reasoning == reasoning


async def test_broken_arguments_go_back_as_an_empty_object() -> None:
    """Servers parse them, and refuse the whole conversation."""
    broken = replace(completion("", "tool_calls"), tool_calls=(ToolCall("c1", "python", "print(1"),))
    talk = Talk([broken, "FINAL(x)"], TOOLS)
    await talk.ask()
    assert talk.sent(1)[2].tool_calls == (ToolCall("c1", "python", "{}"),)
    assert "print(1" in talk.sent(1)[3].content


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [("", "{}"), (" ", "{}"), ('{"code": "a\nb"}', '{"code": "a\\nb"}'), ('{"code":  "é"}', '{"code":  "é"}')],
)
async def test_arguments_go_back_as_strict_json(arguments: str, sent: str) -> None:
    """What is read with leniency is not what servers take; what they take stays as it is."""
    given = replace(completion("", "tool_calls"), tool_calls=(ToolCall("c1", "python", arguments),))
    talk = Talk([given, "FINAL(x)"], TOOLS)
    await talk.ask()
    assert talk.sent(1)[2].tool_calls == (ToolCall("c1", "python", sent),)


@pytest.mark.parametrize(
    ("name", "sent"),
    [("python<|channel|>x", "python__channel__x"), ("functions.python", "functions_python"), ("", "_"), ("é", "_")],
)
async def test_a_made_up_name_of_a_tool_goes_back_as_one_that_servers_take(name: str, sent: str) -> None:
    """They refuse the whole conversation for others, and would at every turn."""
    made_up = replace(completion("", "tool_calls"), tool_calls=(ToolCall("c1", name, '{"code": "1"}'),))
    talk = Talk([made_up, "FINAL(x)"], TOOLS)
    await talk.ask()
    assert talk.sent(1)[2].tool_calls == (ToolCall("c1", sent, '{"code": "1"}'),)
    assert f"there is no tool {name!r}" in talk.sent(1)[3].content


def long_reply(text: str, tokens: int) -> Completion:
    """Return a reply to a request of so many tokens."""
    return replace(completion(text), usage=Usage(calls=1, input_tokens=tokens, output_tokens=10))


NOTES = "Anna is in chapter 3; `hits` holds the places."
WINDOW = replace(FENCES, window=10_000)


async def test_a_conversation_near_the_window_is_compacted() -> None:
    """The prompt, the question, the model's notes, the variables and the last turn stay; what came between goes."""
    turns: list[Turn] = [
        long_reply(f"old thought {'x' * 9000}\n{CELL}", 3000),
        long_reply(f"last thought\n{CELL}", 8000),
        NOTES,
        "FINAL(x)",
    ]
    talk = Talk(turns, WINDOW, lambda code: cell_ok("{'hits': 'list of 7'}" if "SHOW_VARS" in code else "seen"))
    assert await talk.ask("Who is Anna?") == "x"
    before, after = talk.sent(1), talk.sent(3)
    assert "Write down" in talk.sent(2)[-1].content
    assert talk.sent(2)[: len(before)] == before
    assert after[:2] == before[:2]
    told = after[3].content
    assert NOTES in told
    assert "{'hits': 'list of 7'}" in told
    assert [message.role for message in after] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert after[4].content.startswith("last thought")
    assert "old thought" not in "".join(message.content for message in after)
    compacted = [event for event in talk.sink.events if isinstance(event, HistoryCompacted)]
    assert [(event.removed, event.kept, event.by_model, event.window) for event in compacted] == [(2, 2, True, 10_000)]
    assert adds_up(talk)


async def test_a_conversation_far_from_the_window_is_not_compacted() -> None:
    """Nor one whose window is unknown."""
    for profile in (WINDOW, FENCES):
        talk = Talk([long_reply(CELL, 5000), "FINAL(x)"], profile)
        await talk.ask()
        assert len(talk.model.requests) == 2


async def test_a_provider_that_finds_it_too_long_gets_less() -> None:
    """Without the model's notes, as it can't read the conversation: the host lists what was done."""
    talk = Talk([f"old thought\n{CELL}" + "x" * 60_000, CELL, PromptTooLong("too long"), "FINAL(x)"])
    assert await talk.ask() == "x"
    sent = talk.sent(3)
    assert sent[:2] == talk.sent(2)[:2]
    assert "What you did in them" in sent[3].content
    assert "- you: old thought" in sent[3].content
    assert len(sent) == 6
    assert [event.by_model for event in talk.sink.events if isinstance(event, HistoryCompacted)] == [False]
    assert adds_up(talk)


async def test_what_stays_too_long_is_an_error() -> None:
    """Only once is it tried anew, and only if there is something to take out."""
    with pytest.raises(PromptTooLong):
        await Talk([PromptTooLong("too long")]).ask()
    twice: list[Turn] = [f"{CELL}{'x' * 60_000}", CELL, PromptTooLong("too long"), PromptTooLong("still")]
    with pytest.raises(PromptTooLong, match="still"):
        await Talk(twice).ask()


async def test_what_the_kernel_says_of_variables_is_bounded_and_plain() -> None:
    """A cell may have put something else in the place of SHOW_VARS()."""
    turns: list[Turn] = [long_reply(f"old {'x' * 9000}\n{CELL}", 3000), long_reply(CELL, 8000), NOTES, "FINAL(x)"]
    flood = "\x1b[2J\x00evil " * 100_000
    talk = Talk(turns, WINDOW, lambda code: cell_ok(flood if "SHOW_VARS" in code else "seen"))
    await talk.ask()
    told = talk.sent(3)[3].content
    assert len(told) < 8_000
    assert "\x1b" not in told
    assert "\x00" not in told


async def test_notes_that_can_not_be_had_are_made_by_the_host() -> None:
    """The run goes on without them."""
    turns: list[Turn] = [
        long_reply(f"old {'x' * 9000}\n{CELL}", 3000),
        long_reply(CELL, 8000),
        ModelUnavailable("down"),
        "FINAL(x)",
    ]
    talk = Talk(turns, WINDOW)
    assert await talk.ask() == "x"
    assert [event.by_model for event in talk.sink.events if isinstance(event, HistoryCompacted)] == [False]
    assert adds_up(talk)


async def test_the_hosts_list_keeps_the_notes_of_an_earlier_compaction() -> None:
    """They are all that is known of the turns before it, so they are not cut short as turns are."""
    notes = f"{'Much was read. ' * 50}{NOTES}"
    turns: list[Turn] = [
        long_reply(f"old {'x' * 9000}\n{CELL}", 3000),
        long_reply(CELL, 8000),
        notes,
        long_reply(CELL, 100),
        PromptTooLong("too long"),
        "FINAL(x)",
    ]
    talk = Talk(turns, WINDOW)
    assert await talk.ask() == "x"
    assert [event.by_model for event in talk.sink.events if isinstance(event, HistoryCompacted)] == [True, False]
    assert NOTES in talk.sent(5)[3].content
    assert adds_up(talk)


async def test_calls_and_their_results_stay_together_in_a_compaction() -> None:
    """Every call that is kept has its result, and every result its call."""
    turns: list[Turn] = [
        replace(call("a", "c1", "x" * 9000), usage=Usage(calls=1, input_tokens=3000)),
        replace(call("b", "c2"), usage=Usage(calls=1, input_tokens=8000)),
        NOTES,
        "FINAL(x)",
    ]
    talk = Talk(turns, replace(TOOLS, window=10_000))
    assert await talk.ask() == "x"
    sent = talk.sent(3)
    assert [call.id for message in sent for call in message.tool_calls] == ["c2"]
    assert [message.tool_call_id for message in sent if message.role == "tool"] == ["c2"]


async def test_a_later_question_survives_the_compaction() -> None:
    """It is said again, as the turn in which it was asked may be gone."""
    turns: list[Turn] = [
        "FINAL(one)",
        long_reply(f"old {'x' * 9000}\n{CELL}", 3000),
        long_reply(CELL, 8000),
        NOTES,
        "FINAL(two)",
    ]
    talk = Talk(turns, WINDOW)
    await talk.ask()
    await talk.ask("And who is Bert?")
    assert "The question now:\n\nAnd who is Bert?" in talk.sent(4)[3].content


async def test_the_profile_is_recorded() -> None:
    """By its name and digest, with what was decided."""
    talk = Talk(["FINAL(x)"], TOOLS)
    await talk.ask()
    assert talk.sink.events[1] == ProfileChosen(
        name="claude", source="built in", digest=TOOLS.digest, tools=True, window=None
    )
