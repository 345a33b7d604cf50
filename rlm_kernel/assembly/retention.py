"""What is kept of runs that have ended: the rule of the settings, and the contexts that kept runs need."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from rlm_kernel.config import Settings
from rlm_kernel.errors import RlmKernelError
from rlm_kernel.recording import run_folders
from rlm_kernel.recording.removal import Rule, needed_digests, outlived, remove_run
from rlm_kernel.sandbox.unneeded import Unneeded, remove_unneeded

CONTEXTS_SECONDS = 86400.0
"""How often the rule looks for contexts that no run needs: for that all recordings are read."""
_MARK = ".looked-at"
_log = logging.getLogger(__name__)


def rule_of(settings: Settings) -> Rule:
    """Return the rule that the settings have."""
    return Rule(days=settings.keep_runs_days, size=settings.keep_runs_size)


@asynccontextmanager
async def retaining(settings: Settings) -> AsyncIterator[None]:
    """Apply the settings' rule once the run in the block has ended, however that was."""
    try:
        yield
    finally:
        if not rule_of(settings).keeps_all:
            await asyncio.to_thread(retain, settings)


def retain(settings: Settings) -> None:
    """Remove the runs that the settings' rule lets go, as a run ends; a failure is no reason for that to fail.

    It looks at names, sizes and times alone.
    """
    try:
        for going in outlived(settings.state_dir, rule_of(settings)):
            remove_run(going.folder)
            _log.info("removed the run %s: %s", going.folder.name, going.reason)
    except (RlmKernelError, OSError) as error:
        _log.info("runs that the rule lets go could not be removed: %s", error)


def retain_contexts(settings: Settings) -> None:
    """Remove the contexts that no run needs, if the settings have a rule and nobody did so today.

    Raise an `RlmKernelError` or `OSError`.
    """
    mark = settings.contexts_dir / _MARK
    if rule_of(settings).keeps_all or not settings.contexts_dir.is_dir():
        return
    with suppress(FileNotFoundError):
        if time.time() - mark.lstat().st_mtime < CONTEXTS_SECONDS:
            return
    mark.unlink(missing_ok=True)
    mark.touch(mode=0o600, exist_ok=False)
    for unneeded in unneeded_contexts(settings):
        _log.info("removed the context %s, %s bytes, which no run needs", unneeded.digest, unneeded.size)


def unneeded_contexts(settings: Settings, without: Collection[Path] = (), *, dry_run: bool = False) -> list[Unneeded]:
    """Remove the contexts that no recorded run needs, those in `without` aside, and return what that was.

    Raise `RecordingError` if a recording can't be read, as nobody knows what that needs; `StorageError`.
    """
    kept = [folder for folder in run_folders(settings.state_dir) if folder not in without and not folder.is_symlink()]
    return list(remove_unneeded(settings.contexts_dir, needed_digests(kept), dry_run=dry_run))
