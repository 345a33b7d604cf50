"""The pages about runs and bundles, held against what the commands write as JSON."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.recorded import run_id
from tests.unit.cli.conftest import RunCommand
from tests.unit.cli.runs.test_show import state

__all__ = ["state"]
DOCS = Path(__file__).parents[4] / "docs"
OF_OTHERS = {"settings", "usage", "unknown_events", "cells", "packages"}
"""Fields whose keys are names of something, which no page lists."""


def fields(value: Any) -> Iterator[str]:
    """Yield the names of all fields in `value`."""
    for each in value if isinstance(value, list) else []:
        yield from fields(each)
    for name, item in value.items() if isinstance(value, dict) else ():
        yield name
        if name not in OF_OTHERS:
            yield from fields(item)


@pytest.mark.parametrize(
    ("page", "arguments"),
    [
        ("runs", ["list"]),
        ("runs", ["show", run_id(1)]),
        ("runs", ["compare", run_id(0), run_id(1)]),
        ("runs", ["prune", "--dry-run", "--keep-last", "0"]),
        ("runs", ["delete", run_id(0), "--yes"]),
        ("bundles", ["pack", run_id(2), "-o", "x.tar.zst"]),
        ("bundles", ["verify", run_id(2)]),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_every_field_is_on_the_page(
    page: str, arguments: list[str], command: RunCommand, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a program can go by it; fields of events are on the page about these."""
    monkeypatch.chdir(tmp_path)
    for path in state.rglob("*"):
        os.utime(path, (0, 0))
    written = command("runs", *arguments, "--json").out.splitlines()
    texts = [(DOCS / f"{name}.md").read_text(encoding="utf-8") for name in (page, "recording")]
    named = set(re.findall(r"`(\w+)`", "".join(texts)))
    found = {name for line in written for name in fields(json.loads(line))}
    assert found
    assert found <= named
