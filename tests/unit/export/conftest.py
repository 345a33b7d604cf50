"""What the tests of exports share: recordings of made-up events, and exports of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel.events import (
    AnswerGiven,
    AnyEvent,
    CellFinished,
    CellStarted,
    ModelReplied,
    ModelRequested,
    QuestionAsked,
    RunFinished,
    RunStarted,
    TurnStarted,
)
from rlm_kernel.export.formats import Format
from rlm_kernel.export.write import export_run
from rlm_kernel.recording import RecordingLog
from rlm_kernel.types import Usage

RUN = "20261121T073000Z-1f0c9a3e"

Export = Callable[..., str]
Record = Callable[[Sequence[AnyEvent]], Path]


def run_of(*in_cell: AnyEvent, **texts: Any) -> list[AnyEvent]:
    """Return a run of one question, one turn and one cell, with `in_cell` while that runs, and these texts."""
    answer = texts.get("answer", "42")
    return [
        RunStarted(
            run=RUN,
            question=texts.get("question", "?"),
            model=texts.get("model", "scripted:a"),
            sub_model="scripted:b",
            package_version="1",
            python_version="3.11",
        ),
        QuestionAsked(ask=1, question=texts.get("question", "?")),
        TurnStarted(turn=1),
        ModelRequested(call="m1", model="scripted:a", history=0, messages=[]),
        ModelReplied(
            call="m1",
            text=texts.get("reply", "I look."),
            finish_reason="stop",
            usage=Usage(calls=1, input_tokens=10, output_tokens=5, cost_usd=0.25),
            seconds=1.0,
            attempts=1,
            served_by=texts.get("model", "scripted:a"),
            reasoning=texts.get("reasoning"),
        ),
        CellStarted(cell=1, turn=1, code=texts.get("code", "print(1)\n")),
        *in_cell,
        CellFinished(cell=1, status="ok", seconds=0.5, execution_count=1),
        AnswerGiven(answer=answer, source="FINAL"),
        RunFinished(status="answered", answer=answer, seconds=2.0, turns=1, usage={"scripted:a": Usage(calls=1)}),
    ]


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """Writes events as a recording of a folder of its own."""

    def record(events: Sequence[AnyEvent]) -> Path:
        number = len(list(tmp_path.glob("state-*")))
        with RecordingLog(tmp_path / f"state-{number}", RUN) as log:
            for event in events:
                log.emit(event)
        return log.path

    return record


@pytest.fixture
def export(record: Record) -> Export:
    """Exports a run of one cell, as `run_of` makes it, or of a recording that is there."""

    def export(to: Format, *in_cell: AnyEvent, path: Path | None = None, **texts: Any) -> str:
        options = {name: texts.pop(name) for name in ("node", "shorten") if name in texts}
        return exported(path or record(run_of(*in_cell, **texts)), to, **options)

    return export


def exported(path: Path, to: Format, **options: Any) -> str:
    """Return a recording's export."""
    file = io.BytesIO()
    export_run(path, file, to=to, **options)
    return file.getvalue().decode()
