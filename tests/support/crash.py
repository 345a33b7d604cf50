"""A run that stands still at a named step of its life, for tests that kill it there.

Run as a program it writes a line for every event, once that is recorded, and `stopped` at the step.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import rlm_kernel.sandbox.docker
from rlm_kernel import RLM
from rlm_kernel.config import Settings
from rlm_kernel.events import AnyEvent
from rlm_kernel.kernel.start import KernelStart
from rlm_kernel.sandbox.blob import Blob
from rlm_kernel.sandbox.container import Container

STOPPED = "stopped"
SPINS = "print('on', flush=True)\nwhile True: pass"
SPINS_LATER = f"import time\ntime.sleep(2)\n{SPINS}"
HOLDS_THE_GIL = "import time\nprint('on', flush=True)\ntime.sleep(0.3)\nsum(range(10**12))"
FORKS = "import os\nprint('on', flush=True)\nos.fork()\nos.setsid()\nwhile True: pass"
ANSWERS = "FINAL(len(context))"


class Step(NamedTuple):
    """Where to stop: at an event, or before or after a function's call; `cell` is what the model's cell does.

    `below` are the cells of sessions that it starts, each by the one before.
    `later` is how many seconds the cell needs from the event on to get where it should be, and can't tell that. `pool`
    sandboxes are started ahead.
    """

    event: str = ""
    before: tuple[Any, str] | None = None
    after: tuple[Any, str] | None = None
    cell: str = ANSWERS
    later: float = 0.0
    pool: int = 0
    below: tuple[str, ...] = ()


STEPS: dict[str, Step] = {
    "while the context is stored": Step(before=(Blob, "commit")),
    "before the session": Step(event="ContextStored"),
    "before the container is created": Step(before=(Container, "create")),
    "after it was created": Step(after=(Container, "create")),
    "after it was started": Step(after=(Container, "start")),
    "after it called back": Step(before=(rlm_kernel.sandbox.docker, "read_hello")),
    "while the context is bound": Step(before=(KernelStart, "ready")),
    "when the kernel is ready": Step(event="KernelReady"),
    "as a cell starts": Step(event="CellStarted"),
    "while a cell spins": Step(event="CellOutput", cell=SPINS),
    "while a cell holds the GIL": Step(event="CellOutput", cell=HOLDS_THE_GIL, later=0.5),
    "while a cell's child spins": Step(event="CellOutput", cell=FORKS),
    "beside sandboxes that wait": Step(event="CellOutput", cell=SPINS_LATER, pool=2),
    "while a sub-call is in flight": Step(event="SubcallRequested", cell="llm_query('why?')"),
    "while sessions below spin": Step(
        event="CellOutput", cell="rlm_query('why?')", below=("rlm_query('but why?')", SPINS)
    ),
    "while the kernel is replaced": Step(event="KernelLost", cell="import os; os._exit(1)"),
    "between two turns": Step(event="CellFinished"),
    "when there is an answer": Step(event="AnswerGiven"),
    "before the container is removed": Step(before=(Container, "remove")),
    "after the container was removed": Step(after=(Container, "remove")),
    "before the folder is removed": Step(before=(shutil, "rmtree")),
}


def stand_still(*_: object) -> None:
    """Say so and never return."""
    sys.stdout.write(f"{STOPPED}\n")
    sys.stdout.flush()
    threading.Event().wait()


def around(function: Callable[..., Any], step: Step) -> Callable[..., Any]:
    """Return a function that calls `function` and stands still before or after that."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if step.before:
            stand_still()
        result = function(*args, **kwargs)
        if step.after:
            stand_still()
        return result

    return call


class Teller:
    """A sink that says what happened, and stands still at the step's event."""

    def __init__(self, step: Step) -> None:
        self._step = step

    def emit(self, event: AnyEvent, node: str = "") -> None:
        """Say what happened."""
        name = type(event).__name__
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()
        if name == self._step.event:
            time.sleep(self._step.later)
            stand_still()


def main(name: str, carrier: Any, state: Path) -> None:
    """Run one session up to the step `name`."""
    step = STEPS[name]
    if place := step.before or step.after:
        setattr(*place, around(getattr(*place), step))
    script = state.parent / "script.md"
    script.write_text("".join(f"--- turn ---\n```repl\n{cell}\n```\n" for cell in (step.cell, *step.below)))
    settings = Settings(
        model=f"scripted:{script}", carrier=carrier, state_dir=state, pool_size=step.pool, max_depth=len(step.below)
    )
    with RLM(settings=settings, on_event=Teller(step)) as rlm:
        rlm.completion("how long?", "a context")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
