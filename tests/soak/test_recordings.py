"""Long fuzzing of everything that reads recordings."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from tests.attacks import test_recordings

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]


def test_any_edits_of_bytes_for_long(tmp_path: Path) -> None:
    """Whatever is put in the place of some bytes of a kept recording, only errors of ours come out of its readers."""
    long = settings(test_recordings.short, max_examples=1_500)
    long(test_recordings.ANY_BYTES(test_recordings.check_bytes(tmp_path)))()


def test_any_fields_for_long(tmp_path: Path) -> None:
    """Whatever is put in the place of some fields, with a chain that is right, the same."""
    long = settings(test_recordings.short, max_examples=1_500)
    long(test_recordings.ANY_FIELDS(test_recordings.check_fields(tmp_path)))()
