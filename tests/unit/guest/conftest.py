"""Guests for tests; one is shared where a test leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.guest.host import GuestHost


@pytest.fixture(scope="module")
def guest() -> Iterator[GuestHost]:
    """A guest with a bound context, shared by the tests of a module."""
    with GuestHost() as host:
        host.bind("The context has six words here.")
        yield host


@pytest.fixture
def fresh() -> Iterator[GuestHost]:
    """A guest of the test's own, its context not yet bound."""
    with GuestHost() as host:
        yield host
