"""What a sweep covers, and the sweep that every process begins once it has started a session."""

from __future__ import annotations

import logging
import threading
from contextlib import closing
from pathlib import Path

from rlm_kernel.assembly.retention import retain_contexts
from rlm_kernel.config import Settings
from rlm_kernel.recording import HEADS
from rlm_kernel.sandbox.engine import connect
from rlm_kernel.sandbox.sweep import Leftover, Sweeper
from rlm_kernel.storage import cache_folder

_begun: set[tuple[str | None, Path]] = set()
_log = logging.getLogger(__name__)


def sweep(settings: Settings, *, dry_run: bool = False) -> list[Leftover]:
    """Remove what killed sessions left on the engine and in the state folder, and return what that was. It blocks.

    Raise `EngineUnavailable`, `EngineTimeout`, `SandboxError` or `StorageError`.
    """
    contexts = settings.contexts_dir
    with closing(connect(settings.docker_host)) as client:
        state = settings.state_dir
        writing = (contexts, contexts / "known", state / "demo", state / HEADS, settings.runs_dir, cache_folder())
        return Sweeper(client, settings.sessions_dir, writing, dry_run).sweep()


def sweep_once(settings: Settings) -> None:
    """Begin a sweep in a thread, the first time in this process; a run neither waits for it nor fails with it."""
    key = (settings.docker_host, settings.state_dir)
    if key not in _begun:
        _begun.add(key)
        # It may end with the process, at any point: the next sweep goes on from there.
        threading.Thread(target=_sweep, args=(settings,), name="sweep", daemon=True).start()


def _sweep(settings: Settings) -> None:
    try:
        for leftover in sweep(settings):
            _log.info("removed %s %s: %s", leftover.kind, leftover.name, leftover.error or leftover.reason)
        retain_contexts(settings)
    except Exception as error:  # noqa: BLE001 - clean-up behind others' runs, which its failure must not disturb
        _log.info("what killed sessions left could not be swept: %s", error)
