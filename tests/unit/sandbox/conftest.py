"""A content store to try things on."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from rlm_kernel.sandbox.contexts import ContextStore


@pytest.fixture
def store(tmp_path: Path) -> ContextStore:
    """Return an empty store."""
    return ContextStore(tmp_path / "store")


def contents(tmp_path: Path) -> list[str]:
    """Return what lies in the store."""
    return sorted(entry.name for entry in (tmp_path / "store").iterdir() if entry.name != "known")


def trusting(tmp_path: Path) -> ContextStore:
    """Return a store that trusts the times of files that were changed just now."""
    return ContextStore(tmp_path / "store", settle_seconds=0)


def written(path: Path, text: str | bytes) -> Path:
    """Write a file and let the clock of the file system tick, so that the next change gets another time."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    time.sleep(0.02)
    return path
