"""The page about recordings, held against the events themselves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from rlm_kernel.events import SCHEMA_VERSION, AnyEvent, Event, Record
from rlm_kernel.types import Usage

PAGE = (Path(__file__).parents[3] / "docs" / "recording.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))


def named(text: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", text))


@pytest.mark.parametrize("event", get_args(AnyEvent), ids=lambda event: event.__name__)
def test_every_field_of_every_event_is_on_the_page(event: type[Event]) -> None:
    """And its section's table has no field that the event lacks."""
    fields = {field.name for field in msgspec.structs.fields(event)}
    section = SECTIONS[event.__name__]
    assert fields <= named(section)
    first_cells = "".join(re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE))
    assert named(first_cells) <= fields


def test_the_page_has_no_event_that_is_gone() -> None:
    """Its sections are the events, in their order; every event class can be recorded."""
    names = [event.__name__ for event in get_args(AnyEvent)]
    assert list(SECTIONS) == names
    assert {event.__name__ for event in Event.__subclasses__()} == set(names)


def test_the_page_says_what_a_line_and_a_usage_hold() -> None:
    """Their fields and the schema's version."""
    for struct in (Record, Usage):
        assert {field.name for field in msgspec.structs.fields(struct)} <= named(PAGE)
    assert f"the schema's version, now {SCHEMA_VERSION}\n" in PAGE.replace(" |\n", "\n")
