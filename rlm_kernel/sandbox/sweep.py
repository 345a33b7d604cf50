"""Finds and removes what killed processes left: containers, session folders, unfinished files, runtime processes.

A session folder or an unfinished file is left over when nobody holds its lock, which ends with the process that had it.
A container is left over when such a folder names it, or when its owner is certainly dead; where its owner can't be seen
from here, when it has not been started for ten minutes, as one that runs has a lease and ends by itself.
Recordings and finished contexts are never touched. Several sweepers may run at once, beside sessions that start.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import docker

from rlm_kernel.errors import SandboxError, StorageError
from rlm_kernel.sandbox.container import LABEL, remove_container
from rlm_kernel.sandbox.engine import engine_errors
from rlm_kernel.sandbox.folders import noted_container
from rlm_kernel.sandbox.owner import is_dead
from rlm_kernel.sandbox.processes import end_processes, processes_of
from rlm_kernel.storage import UNFINISHED, abandoned, storing

Kind = Literal["container", "session folder", "unfinished file", "process"]
NEVER_STARTED = 600.0
"""Seconds after which a container that was created and not started is expired, whoever made it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """One thing that was left: why it counts as that, and what kept it from being removed, if something did."""

    kind: Kind
    name: str
    reason: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Sweeper:
    """Sweeps one engine, one folder of sessions, and folders in which files are written; `dry_run` only looks."""

    client: docker.APIClient
    sessions: Path
    writing: tuple[Path, ...] = ()
    dry_run: bool = False

    def sweep(self) -> list[Leftover]:
        """Remove what is left over and return what that was. It blocks.

        What can't be removed is returned with its error. Raise `EngineUnavailable`, `EngineTimeout` or `SandboxError`
        where the engine can't even be asked.
        """
        return [*self._session_folders(), *self._containers(), *self._unfinished_files()]

    def _session_folders(self) -> Iterator[Leftover]:
        for folder in _entries(self.sessions, "*"):
            with abandoned(folder) as left:
                if not left or not folder.is_dir():
                    continue
                if (container := noted_container(folder)) is not None:
                    yield from self._container_of(folder, container)
                yield self._removed(
                    Leftover(kind="session folder", name=str(folder), reason="its session was killed"), folder
                )

    def _container_of(self, folder: Path, container: str) -> Iterator[Leftover]:
        """Remove the container of a dead session, which its folder names, and what runs of it without the engine."""
        reason = f"the session of {folder.name} was killed"
        with engine_errors("list the containers"):
            known = self.client.containers(all=True, filters={"id": container})
        if known:
            yield self._without(Leftover(kind="container", name=container, reason=reason))
        seen = processes_of(container) if self.dry_run else end_processes(container)
        for process in seen if not (self.dry_run and known) else ():
            yield Leftover(
                kind="process",
                name=f"{process.name} ({process.pid})",
                reason=f"it outlived the container {container[:12]}",
                error="it does not end, or belongs to another user" if process.stays else None,
            )

    def _containers(self) -> Iterator[Leftover]:
        with engine_errors("list the containers"):
            found: list[dict[str, Any]] = self.client.containers(all=True, filters={"label": [f"{LABEL}.owner"]})
        now: float | None = None
        for container in found:
            if container["State"] == "removing":
                continue
            if is_dead(container["Labels"][f"{LABEL}.owner"]):
                reason = "the process that made it is gone"
            elif container["State"] == "created":
                now = now or self._engine_time()
                if now - container["Created"] < NEVER_STARTED:
                    continue
                reason = f"it was made {(now - container['Created']) / 60:.0f} minutes ago and never started"
            else:
                continue
            yield self._without(Leftover(kind="container", name=container["Id"], reason=reason))

    def _engine_time(self) -> float:
        """Return the engine's own time, in seconds, as its machine's clock may differ from ours."""
        with engine_errors("tell its time"):
            text = str(self.client.info()["SystemTime"])
        return datetime.fromisoformat(text[:19] + "+00:00").timestamp()

    def _without(self, container: Leftover) -> Leftover:
        if not self.dry_run:
            try:
                with engine_errors("remove the container"):
                    remove_container(self.client, container.name)
            except SandboxError as error:
                return replace(container, error=str(error))
        return container

    def _unfinished_files(self) -> Iterator[Leftover]:
        for folder in self.writing:
            for file in _entries(folder, f"{UNFINISHED}*"):
                with abandoned(file) as left:
                    if left:
                        reason = "what wrote it was killed"
                        yield self._removed(Leftover(kind="unfinished file", name=str(file), reason=reason), file)

    def _removed(self, leftover: Leftover, path: Path) -> Leftover:
        try:
            if not self.dry_run:
                with storing(path):
                    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        except StorageError as error:
            return replace(leftover, error=str(error))
        return leftover


def _entries(folder: Path, pattern: str) -> Iterable[Path]:
    """Return what is in `folder`, in order; nothing where it is missing. Raise `StorageError`."""
    with storing(folder):
        return sorted(folder.glob(pattern))
