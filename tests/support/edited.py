"""Recordings that someone has edited."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlm_kernel.recording.log import line_digest


def edit(events: Path, change: Callable[[dict[str, Any]], None], *, chained: bool = True) -> None:
    """Let `change` edit each event of a recording; with `chained` its lines name one another as if nothing had been."""
    lines, head = [], ""
    for line in events.read_text().splitlines():
        record = json.loads(line)
        change(record["event"])
        if chained and record["v"] > 1 and record["seq"]:
            record["prev"] = head
        written = json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()
        head = line_digest(written)
        lines.append(written + b"\n")
    events.chmod(0o600)
    events.write_bytes(b"".join(lines))
