"""Recordings for tests, written as runs write them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rlm_kernel.events import AnyEvent, ContextStored, RunFinished, RunOrigin, RunStarted, RunStatus, SandboxStarted
from rlm_kernel.recording import RecordingLog
from rlm_kernel.types import Usage

USED = {"fake:root": Usage(calls=2, input_tokens=100, output_tokens=20, cost_usd=0.5)}


def run_id(number: int) -> str:
    """Return an id; that of a higher number is of a later run."""
    return f"20261121T{number // 60:02}{number % 60:02}00Z-{number:08x}"


def started(
    run: str, question: str = "How many?", model: str = "fake:root", origin: RunOrigin | None = None
) -> RunStarted:
    """Return a run's first event."""
    return RunStarted(
        run=run,
        question=question,
        model=model,
        sub_model="fake:sub",
        package_version="1",
        python_version="3.11",
        origin=origin,
    )


def finished(status: RunStatus = "answered", answer: str | None = "42", error: str | None = None) -> RunFinished:
    """Return a run's last event."""
    return RunFinished(status=status, answer=answer, seconds=1.5, turns=2, usage=USED, subcalls=7, error=error)


def stored(digest: str, index_digest: str | None = None) -> ContextStored:
    """Return the event of a context in the content store."""
    return ContextStored(digest=digest, kind="str", size=3, source="value", index_digest=index_digest)


def box(seed: int | None = None) -> SandboxStarted:
    """Return the event of a container."""
    return SandboxStarted(
        runtime="d",
        oci_runtime="r",
        engine="e",
        container="c",
        image="i",
        image_id="i",
        carrier="socket",
        uid=1,
        seen={},
        seed=seed,
    )


def write_run(state_dir: Path, run: str, events: Iterable[tuple[AnyEvent, str] | AnyEvent]) -> Path:
    """Write a recording, of the root session's events or of pairs with the node, and return its folder."""
    with RecordingLog(state_dir, run) as log:
        for event in events:
            if isinstance(event, tuple):
                log.emit(*event)
            else:
                log.emit(event)
    return log.folder


def of(parent: str) -> RunOrigin:
    """Return the origin of a fork of `parent`."""
    return RunOrigin(how="fork", run=parent, records=3, head="0" * 64, turn=1)
