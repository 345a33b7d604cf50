"""Making a conversation shorter before the model can't read all of it: what is known stays, how it was found goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlm_kernel.budget import guess_message
from rlm_kernel.controller.conversation import Conversation
from rlm_kernel.controller.ports import CellRunner
from rlm_kernel.controller.shown import cut, plain, shown
from rlm_kernel.errors import ModelError
from rlm_kernel.events import EventSink, HistoryCompacted
from rlm_kernel.text import encodable
from rlm_kernel.types import Message

FULL = 0.75
"""The share of a model's window that a request may fill; the rest is for the reply, and for a wrong estimate."""
_KEPT = 0.25
"""The share of the window that the last turns, kept as they are, may fill."""
_VARIABLES = 6_000
_SUMMARY = 12_000
_EARLIER = 6_000
_TURN = 240
"""Characters that are shown of the variables and of a summary; of an earlier summary and of one turn in the host's."""

_ASK = (
    "This conversation is about to become longer than you can read, so its earlier turns will be taken out. Write down "
    "what you need to go on without them: what you found out so far (facts, numbers, quotes, and where they stand), "
    "what each variable holds, what did not work, and what is to be done next. Plain text, no code, no call of a tool, "
    "at most 500 words. Do not give the final answer now."
)
_REMOVED = "(Earlier turns were taken out here.)"
_TAKEN_OUT = "Earlier turns were taken out of this conversation"
_GOES_ON = (
    _TAKEN_OUT + ", as it became too long. The Python session is unchanged: all "
    "variables are still there.\n\n{summary}\n\nYour variables:\n\n{variables}{question}\n\nGo on from here."
)
_NOTED = "What you wrote down about them:\n\n{}"
_LISTED = "What you did in them, each cut short:\n\n{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """What a conversation is to keep: the `question`, where that is not its first one, and so much of the last turns.

    `alone`: the model can't be asked to sum it up, as the provider could not take it any more, or the budget is spent.
    """

    question: str | None
    turn: int
    window: int | None
    alone: bool


async def compact(talk: Conversation, cells: CellRunner, sink: EventSink, keeping: Keeping) -> bool:
    """Take earlier turns out of `talk`; tell whether there were any.

    What stays: the system prompt and the first question as they are, the model's own summary (the host's where that
    can't be had), the variables with their types and sizes as the kernel tells them now, and the last turns.
    """
    first = _first_turn(talk.messages)
    room = 0 if keeping.alone or keeping.window is None else int(keeping.window * _KEPT)
    kept_from = _kept_from(talk.messages, first, room)
    if kept_from <= first:
        kept_from = _kept_from(talk.messages, first, 0)
    if kept_from <= first:
        return False
    tokens, head, tail = talk.tokens, talk.messages[:first], talk.messages[kept_from:]
    removed = talk.messages[first:kept_from]
    noted = "" if keeping.alone else await _noted(talk, [*head, *removed, *tail])
    summary = _NOTED.format(noted) if noted else _LISTED.format(_listed(removed))
    listed = await cells.run_cell("SHOW_VARS()", turn=keeping.turn)
    question = f"\n\nThe question now:\n\n{encodable(keeping.question)}" if keeping.question is not None else ""
    said = _GOES_ON.format(summary=summary, variables=shown(listed, _VARIABLES), question=question)
    sink.emit(
        HistoryCompacted(
            tokens=tokens,
            window=keeping.window,
            removed=len(removed),
            kept=len(tail),
            summary=summary,
            by_model=bool(noted),
        )
    )
    talk.start([*head, Message("assistant", _REMOVED), Message("user", said), *tail])
    return True


async def _noted(talk: Conversation, messages: Sequence[Message]) -> str:
    """Ask the model for its summary; nothing if it gives none. `talk` holds the same `messages` again afterwards."""
    talk.say(_ASK)
    try:
        completion = await talk.ask()
    except ModelError:
        return ""
    finally:
        talk.start(messages)
    return "" if completion.finish_reason in {"refusal", "content_filter"} else cut(completion.text.strip(), _SUMMARY)


def _first_turn(messages: Sequence[Message]) -> int:
    """Return where the model's first reply is."""
    return next((place for place, message in enumerate(messages) if message.role == "assistant"), len(messages))


def _kept_from(messages: Sequence[Message], first: int, room: int) -> int:
    """Return where the last turns begin that are kept: the last one always, others as they have room."""
    begin = len(messages)
    for place in range(len(messages) - 1, first - 1, -1):
        room -= guess_message(messages[place])
        if messages[place].role != "assistant":
            continue
        if begin < len(messages) and room < 0:
            break
        begin = place
    return begin


def _listed(messages: Sequence[Message]) -> str:
    """Return the beginnings of what was said and done, as the host knows it without understanding it."""
    lines = []
    for message in messages:
        text = " ".join(plain(message.content).split())
        code = " ".join(" ".join(plain(call.arguments).split()) for call in message.tool_calls)
        who = "you" if message.role == "assistant" else "output"
        room = _EARLIER if message.content.startswith(_TAKEN_OUT) else _TURN
        lines.append(f"- {who}: {cut(' '.join(part for part in (text, code) if part), room)}")
    return cut("\n".join(lines), _SUMMARY)
