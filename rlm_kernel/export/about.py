"""What a document says of a run as a whole."""

from __future__ import annotations

from typing import Any

import msgspec

from rlm_kernel.errors import ConfigError
from rlm_kernel.events import RunFinished, RunStarted, SandboxStarted
from rlm_kernel.export.parts import Table
from rlm_kernel.export.told import dollars, duration, instant, used
from rlm_kernel.recording import Recording, is_written
from rlm_kernel.recording.index import Node
from rlm_kernel.types import Usage
from rlm_kernel.version import __version__


class About:
    """A session of a recording: how it began, where it ran, how it ended if it did."""

    def __init__(self, recording: Recording, path: str) -> None:
        """Raise `ConfigError` if the run has no such session."""
        node = recording.nodes.get(path)
        if node is None or node.started is None:
            raise ConfigError(f"the run has no session {path[:100]!r}; there {_listed(recording)}")
        self.recording, self.node = recording, node
        self.started = recording.expect(node.started, RunStarted)
        self.at = recording.record(node.started).at
        self.finished = None if node.finished is None else recording.expect(node.finished, RunFinished)
        self.sandbox = recording.expect(node.sandboxes[0], SandboxStarted) if node.sandboxes else None
        self.contexts = recording.contexts(path)

    @property
    def status(self) -> str:
        """How it ended, "running" or "broken-off" if it did not."""
        if self.finished:
            return self.finished.status
        return "running" if is_written(self.recording.path) else "broken-off"

    @property
    def ended_at(self) -> float | None:
        """When it ended, UTC in seconds."""
        return None if self.node.finished is None else self.recording.record(self.node.finished).at

    @property
    def usage(self) -> dict[str, Usage]:
        """What it used, by model, if it ended."""
        return self.finished.usage if self.finished else {}

    def table(self) -> Table:
        """Return it as a table for people."""
        started, finished, sandbox = self.started, self.finished, self.sandbox
        rows = [("Status", self.status), ("Model", started.model), ("Model of sub-calls", started.sub_model)]
        rows.append(("Started", instant(self.at)))
        if finished:
            rows.append(("Took", f"{duration(finished.seconds)}, {finished.turns} turn{'s' * (finished.turns != 1)}"))
            rows.append(("Used", " · ".join(used(sum(self.usage.values(), Usage()))) or "no tokens"))
        rows += [
            (f"Variable {one.name}", f"{one.kind}, {one.size:,} bytes, sha256:{one.digest}") for one in self.contexts
        ]
        if sandbox:
            rows.append(("Sandbox", f"{sandbox.image}, {sandbox.image_id}"))
        rows.append(("rlm_kernel", f"{started.package_version}, Python {started.python_version}"))
        if redact := started.settings.get("redact"):
            rows.append(("Kept out of the recording", str(redact)))
        if origin := started.origin:
            rows.append((f"A {origin.how} of", f"{origin.run}, {origin.records} records"))
        return Table(("Run", started.run), rows)

    def warnings(self) -> list[str]:
        """Say what is missing of the recording."""
        recording, said = self.recording, []
        if recording.damage:
            said.append(f"This recording is damaged. What stands before the damage is here. {recording.damage}")
        if recording.torn:
            said.append(f"The recording's last line is torn: its {recording.torn} bytes are left out.")
        if self.node.finished is None and not recording.damage:
            why = "still goes on" if self.status == "running" else "was broken off"
            said.append(f"This run has no end, as it {why}. What was recorded so far is here.")
        if unknown := recording.unknown:
            said.append(f"{sum(unknown.values())} events of a later version of rlm_kernel are left out.")
        return said

    def metadata(self) -> dict[str, Any]:
        """Return it as JSON for programs."""
        started, sandbox = self.started, self.sandbox
        return {
            "run": started.run,
            "node": self.node.path,
            "status": self.status,
            "model": started.model,
            "sub_model": started.sub_model,
            "schema_version": self.recording.version,
            "records": len(self.recording),
            "head": self.recording.head,
            "damage": self.recording.damage,
            "torn": self.recording.torn,
            "versions": {
                "rlm_kernel": started.package_version,
                "python": started.python_version,
                "exported_by": __version__,
                "sandbox": sandbox.packages if sandbox else {},
            },
            "image": {"tag": sandbox.image, "id": sandbox.image_id} if sandbox else None,
            "contexts": [msgspec.to_builtins(context) for context in self.contexts],
            "usage": msgspec.to_builtins(self.usage),
            "seconds": self.finished.seconds if self.finished else None,
            "origin": msgspec.to_builtins(started.origin),
        }


def usage_table(rows: dict[str, Usage]) -> Table:
    """Return what each model used."""
    return Table(
        ("Model", "Calls", "Tokens in", "of them cached", "Tokens out", "Cost"),
        [
            (
                name,
                f"{usage.calls:,}",
                f"{usage.input_tokens:,}",
                f"{usage.cached_input_tokens:,}",
                f"{usage.output_tokens:,}",
                dollars(usage.cost_usd),
            )
            for name, usage in rows.items()
        ],
    )


def _listed(recording: Recording) -> str:
    below: list[Node] = [node for node in recording.nodes.values() if node.path][:20]
    return f"are {', '.join(node.path[:40] for node in below)}" if below else "is only its own"
