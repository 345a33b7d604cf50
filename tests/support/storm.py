"""A run whose one cell makes a great many sub-calls to a provider that fails at first, in a process of its own."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from rlm_kernel import RLM, Settings
from rlm_kernel.events import AnyEvent, ModelRetried, SubcallReplied, SubcallRequested

CELL = """
answers = llm_query_batched([f"q{number}" for number in range(%d)])
wrong = [(number, answer) for number, answer in enumerate(answers) if answer != f"a{number}"]
FINAL([len(answers), wrong[:5]])
"""


@dataclass(slots=True)
class Storm:
    """What happened: the prompts of sub-calls, their answers, what was repeated why, and this process's memory."""

    prompts: dict[str, str] = field(default_factory=dict)
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    retried: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    memory: list[int] = field(default_factory=list)
    answer: str = ""

    def emit(self, event: AnyEvent, node: str = "") -> None:
        """Take note of `event`."""
        if isinstance(event, SubcallRequested):
            self.prompts[event.call] = event.prompt
        elif isinstance(event, SubcallReplied):
            self.answers[event.call, event.text] += 1
            if self.answers.total() % 500 == 0:
                self.memory.append(psutil.Process().memory_info().rss)
        elif isinstance(event, ModelRetried):
            self.retried[event.message.partition(": ")[2][:60]] += 1
        else:
            self.others[type(event).__name__] += 1

    def assert_complete(self, calls: int) -> None:
        """Fail unless every prompt has its own answer, once."""
        assert self.answer == f"[{calls}, []]"
        assert sorted(self.prompts.values(), key=lambda prompt: int(prompt[1:])) == [f"q{n}" for n in range(calls)]
        assert self.answers == Counter({(call, f"a{prompt[1:]}"): 1 for call, prompt in self.prompts.items()})
        assert self.others["SubcallFailed"] == self.others["SubcallRefused"] == 0


async def storm(calls: int, settings: Settings, folder: Path) -> Storm:
    """Run a cell of so many sub-calls to `settings.sub_model`."""
    script = folder / "storm.md"
    script.write_text(f"--- turn ---\n```repl\n{CELL % calls}\n```\n")
    seen = Storm()
    async with RLM(f"scripted:{script}", settings.sub_model, settings=settings, on_event=seen) as rlm:
        seen.answer = (await rlm.acompletion("How many?", "x")).answer
    return seen
