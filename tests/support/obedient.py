"""A provider whose root model does what the question says: the question is code, which it sends back as cells."""

from __future__ import annotations

import re
from typing import Any

from tests.support.provider_server import ProviderServer, Reply

NEXT = "\n# then\n"
"""Stands between the cells of a question."""

_QUESTION = re.compile(r"The question:\n\n(.*)\n\nThe context:", re.DOTALL)


def obedient_server() -> ProviderServer:
    """Return a server that answers a session's nth request with its question's nth cell; sub-calls get an echo."""
    return ProviderServer(obey)


def nested(levels: int, bottom: str = "FINAL(llm_query('bottom'))") -> str:
    """Return a question that goes down so many levels of sessions, each of which puts its depth before the answer."""
    code = bottom
    for level in range(levels, 0, -1):
        code = f"FINAL('{level}>' + rlm_query({code!r}))"
    return code


def obey(body: dict[str, Any]) -> Reply:
    """Return what a session's root model or a sub-model says."""
    messages = body["messages"]
    if messages[0]["role"] != "system":
        return Reply(text=f"echo {messages[0]['content']}")
    found = _QUESTION.search(messages[1]["content"])
    assert found is not None
    if found[1] == "reject":
        return Reply(status=400, text="no")
    turn = sum(message["role"] == "assistant" for message in messages)
    cells = ["FINAL(context)"] if found[1].startswith("The task is the context") else found[1].split(NEXT)
    return Reply(text=f"```repl\n{cells[min(turn, len(cells) - 1)]}\n```")
