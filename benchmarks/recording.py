"""What recording costs: a run of cells and sub-calls whose events are written, against one whose events are dropped."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from benchmarks.harness import Measure, Row, Samples, in_turn
from benchmarks.stage import Stage, timed_cell
from benchmarks.subcalls import provider_model
from rlm_kernel.events import AnyEvent, EventSink
from rlm_kernel.models.model import Model
from rlm_kernel.recording import RecordingLog, Redaction, hooks_of, new_run_id
from rlm_kernel.session import Session, SessionSpec, SlotPool, open_session
from tests.support.provider_server import provider_process

ROUNDS, CELLS, CALLS, PARALLEL, DELAY = 8, 10, 8, 4, 0.1
TARGET = 0.02
EACH = 50
"""How often the events of one run are written, to tell what one takes."""

CELL = f"""
numbers = sorted(hash(str(n)) % 1000 for n in range(100_000))
for n in range(20):
    print(n, "a line of output that a cell prints, as long as such lines are,", numbers[n])
answers = llm_query_batched(["Which of these is the odd one out? " + "some words of a context. " * 80] * {CALLS})
print(answers)
"""


class _Dropped:
    """Takes every event and keeps the list of them, as a reference to each, alone."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []

    def emit(self, event: AnyEvent) -> None:
        """Keep a reference."""
        self.events.append(event)


async def rows(stage: Stage) -> list[Row]:
    """Measure the same cells with and without a recording, in turn, and what writing their events takes by itself."""
    dropped = _Dropped()
    async with AsyncExitStack() as stack:
        url = stack.enter_context(provider_process("--delay", str(DELAY)))
        model = await stack.enter_async_context(provider_model(url))
        measures: dict[str, Measure] = {}
        for name, sink in (("recorded", stage.log), ("dropped", dropped)):
            session = await stack.enter_async_context(_session(stage, model, sink))
            measures[name] = partial(_run, session)
        taken = await in_turn(measures, ROUNDS)
    events = dropped.events[-(len(dropped.events) // (ROUNDS + 1)) :]
    hooks = {"": None, " with --redact keys": Redaction(hooks_of("keys"))}
    written = {
        name: Samples(tuple(_written(stage.folder, events, redaction) for _ in range(ROUNDS)))
        for name, redaction in hooks.items()
    }
    what = f"{CELLS} cells, {CELLS * CALLS} sub-calls of {DELAY * 1e3:.0f} ms"
    return [
        Row(name=f"{what}, recorded", value=taken["recorded"], baseline=taken["dropped"], against="not recorded"),
        *(
            Row(
                name=f"their {len(events)} events written, processor time{name}",
                value=seconds,
                baseline=taken["dropped"],
                against="the run",
                target=TARGET,
            )
            for name, seconds in written.items()
        ),
        *(
            Row(name=f"one of them{name}", value=Samples(tuple(each / len(events) for each in seconds.values)))
            for name, seconds in written.items()
        ),
    ]


@asynccontextmanager
async def _session(stage: Stage, model: Model, sink: EventSink) -> AsyncIterator[Session]:
    spec = SessionSpec(
        sandbox=stage.sandbox_spec(stage.carriers[0]),
        context=stage.empty,
        models={None: model},
        cell_timeout=stage.settings.cell_timeout,
        parallel_subcalls=PARALLEL,
    )
    async with SlotPool(stage.runtime, spec.sandbox) as slots, open_session(slots, spec, sink) as session:
        yield session


async def _run(session: Session) -> float:
    return sum([await timed_cell(session, CELL) for _ in range(CELLS)])


def _written(folder: Path, events: list[AnyEvent], redaction: Redaction | None) -> float:
    """Return the processor time of all threads that writing the events took, once each."""
    with RecordingLog(folder, new_run_id(), keep=False, redaction=redaction) as log:
        started = time.process_time()
        for _ in range(EACH):
            for event in events:
                log.emit(event)
        return (time.process_time() - started) / EACH
